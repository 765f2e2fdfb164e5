//! The command line: flags and their words. What they mean is known by `config` and `client`.

pub mod bench;
pub mod put;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use bitsd::config::{
    Config, ConfigError, Durability, Flags, Io, LogFormat, LogLevel, Scope, SettingsFile,
    settings_reference,
};

/// A BITS upload server for Linux.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive uploads until told to stop.
    Serve(Settings),
    /// Print the settings that flags and file come to, or what is wrong with them.
    #[command(after_long_help = keys_of_the_file())]
    Check(Settings),
    /// Upload files to a BITS server.
    Put(put::Put),
    /// Measure a BITS server: many uploads at once, every Ack checked.
    Bench(bench::Bench),
}

/// Flags of `serve` and `check`; they win over the settings file.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Settings file (TOML); `bitsd check --help` lists its keys.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that uploaded files go to [default: ./uploads].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Address to listen on, may be repeated [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Number of cores to use, 1 to 256; 0 is all that are available [default: 0].
    #[arg(long, value_name = "N")]
    cores: Option<u32>,
    /// Directory of unfinished uploads, on the file system of the root [default: ROOT/.bitsd].
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// How bytes reach their file [default: auto].
    #[arg(long, value_name = "HOW", value_parser = one_of(Io::ALL, Io::name))]
    io: Option<Io>,
    /// What is synced to disk before it is acknowledged [default: upload].
    #[arg(long, value_name = "WHAT", value_parser = one_of(Durability::ALL, Durability::name))]
    durability: Option<Durability>,
    /// Form of the log on stderr [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = one_of(LogFormat::ALL, LogFormat::name))]
    log_format: Option<LogFormat>,
    /// How much is logged [default: info].
    #[arg(long, value_name = "LEVEL", value_parser = one_of(LogLevel::ALL, LogLevel::name))]
    log_level: Option<LogLevel>,
}

impl Settings {
    /// Reads the settings file, if one is named, and settles every value.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(SettingsFile::read).transpose()?;
        let flags = Flags {
            listen: self.listen,
            root: self.root,
            work_dir: self.work_dir,
            cores: self.cores,
            io: self.io,
            durability: self.durability,
            log_format: self.log_format,
            log_level: self.log_level,
        };
        Config::resolve(flags, file)
    }
}

/// Takes the words of an enum and gives its value.
fn one_of<T, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.map(name)).map(move |word| {
        let value = all.iter().copied().find(|value| name(*value) == word);
        value.expect("only these words are possible")
    })
}

/// The settings file's keys, for `bitsd check --help`.
fn keys_of_the_file() -> String {
    let mut text = "Keys of the settings file:\n".to_owned();
    for doc in settings_reference() {
        let place = match doc.scope {
            Scope::Server => "",
            Scope::Both => " Also in a [[location]].",
            Scope::Location => " Only in a [[location]].",
        };
        text.push_str(&format!(
            "\n  {}\n      {}\n      Takes {}. Default: {}.{place}\n",
            doc.key, doc.meaning, doc.bounds, doc.default
        ));
    }
    text.push_str("\nRelative paths are relative to the directory bitsd is started in.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let words = "bitsd check --root /r --listen 127.0.0.1:1 --listen [::1]:2 --cores 3 --work-dir /w \
                     --durability fragment --io direct --log-format json --log-level warn";
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Check(settings) = cli.command else {
            panic!("{cli:?}")
        };
        let config = settings.resolve().unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.cores, 3);
        let text = config.to_toml();
        for line in [
            "root = \"/r\"",
            "work_dir = \"/w\"",
            "io = \"direct\"",
            "durability = \"fragment\"",
            "log_format = \"json\"",
            "log_level = \"warn\"",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn unknown_words_are_usage_errors() {
        for words in [
            "bitsd",
            "bitsd serve --durability always",
            "bitsd serve --listen localhost",
            "bitsd put file",
            "bitsd put file https://h/",
            "bitsd put --fragment-bytes 5119 file http://h/",
            "bitsd put --retry-for 1w file http://h/",
            "bitsd bench http://h/file",
            "bitsd bench --connections 0 http://h/",
            "bitsd bench --file-bytes 0 http://h/",
            "bitsd bench --put --ping http://h/",
            "bitsd bench --raw --idle 5 http://h/",
            "bitsd bench --ping --verify /d http://h/",
        ] {
            let error = Cli::try_parse_from(words.split_whitespace()).expect_err(words);
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn several_files_and_a_folder_are_told_apart() {
        let cli = Cli::try_parse_from(["bitsd", "put", "a", "b", "http://h/in/"]).unwrap();
        let Command::Put(put) = cli.command else {
            panic!("{cli:?}")
        };
        let targets: Vec<String> = put
            .targets()
            .unwrap()
            .iter()
            .map(|(_, url)| url.to_string())
            .collect();
        assert_eq!(targets, ["http://h/in/a", "http://h/in/b"]);
        let cli = Cli::try_parse_from(["bitsd", "put", "a", "b", "http://h/in"]).unwrap();
        let Command::Put(put) = cli.command else {
            panic!("{cli:?}")
        };
        assert!(put.targets().is_err());
    }
}
