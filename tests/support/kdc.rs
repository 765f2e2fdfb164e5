//! A realm of MIT Kerberos on loopback: a key distribution centre that ends with its test, its
//! principals, keytabs, and tickets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::program::{Program, free_address};
use super::server::Settings;
use super::{skip, wait_until};

/// A realm.
pub struct Realm {
    folder: TempDir,
    name: String,
    _kdc: Program,
}

/// Where somebody's tickets are.
#[derive(Clone, Debug)]
pub struct Tickets(PathBuf);

/// What a client asks the library for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// What the token is bound to.
    pub end_point: Option<&'a [u8]>,
    /// Kerberos by itself, without SPNEGO around it.
    pub is_bare: bool,
}

/// A port that was free a moment ago may be somebody else's when the KDC comes.
const PORTS_TRIED: usize = 10;

/// Settings of the KDC, and of those who ask it, at a port.
fn write_settings(folder: &Path, name: &str, port: u16) {
    let at = folder.display();
    // No names are looked up: there is no network but loopback.
    let client = format!(
        "[libdefaults]\ndefault_realm = {name}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
         dns_canonicalize_hostname = false\nrdns = false\nforwardable = true\n\
         [realms]\n{name} = {{\nkdc = 127.0.0.1:{port}\n}}\n[domain_realm]\nlocalhost = {name}\n"
    );
    let kdc = format!(
        "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n\
         [realms]\n{name} = {{\ndatabase_name = {at}/principals\nkey_stash_file = {at}/stash\n\
         acl_file = {at}/acl\nsupported_enctypes = aes256-cts:normal aes128-cts:normal\n}}\n\
         [logging]\nkdc = FILE:{at}/kdc.log\n"
    );
    fs::write(folder.join("krb5.conf"), &client).unwrap();
    fs::write(folder.join("server.conf"), client).unwrap();
    fs::write(folder.join("kdc.conf"), kdc).unwrap();
}

impl Realm {
    /// Starts one; `None`, with a sentence, where the programs are missing.
    pub fn start(name: &str) -> Option<Self> {
        let programs = ["krb5kdc", "kdb5_util", "kadmin.local", "kinit"];
        for program in programs {
            if !is_there(program) {
                skip(&format!(
                    "there is no {program} (krb5-kdc, krb5-admin-server, krb5-user)"
                ));
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        write_settings(folder.path(), name, free_address().port());
        let mut made = within(folder.path(), "kdb5_util");
        made.args(["create", "-s", "-P", "of a test", "-r", name]);
        assert_ran(&made.output().unwrap());
        let log = folder.path().join("kdc.log");
        for _ in 0..PORTS_TRIED {
            write_settings(folder.path(), name, free_address().port());
            let mut kdc = within(folder.path(), "krb5kdc");
            let kdc = kdc.arg("-n").stdout(Stdio::null()).stderr(Stdio::null());
            let mut kdc = Program(kdc.spawn().unwrap());
            let mut has_ended = false;
            wait_until("the KDC has begun, or has ended", || {
                has_ended = kdc.0.try_wait().unwrap().is_some();
                has_ended
                    || fs::read_to_string(&log)
                        .is_ok_and(|log| log.contains("commencing operation"))
            });
            if !has_ended {
                return Some(Self {
                    folder,
                    name: name.to_owned(),
                    _kdc: kdc,
                });
            }
        }
        let log = fs::read_to_string(&log).unwrap_or_default();
        panic!("somebody else was faster at each port: {log}");
    }

    /// The same, where tokens can be made one by one too.
    pub fn with_tokens(name: &str) -> Option<Self> {
        Self::start(name).filter(|_| Self::can_make_tokens())
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that lives in this realm.
    pub fn command(&self, program: &str) -> Command {
        within(self.folder.path(), program)
    }

    /// Makes a principal whose password is its name.
    pub fn add(&self, principal: &str) {
        self.administer(&format!("addprinc -pw {principal} {principal}"));
    }

    /// Makes principals with random keys, and a keytab of them.
    pub fn keytab(&self, file: &str, principals: &[&str]) -> PathBuf {
        let path = self.file(file);
        for principal in principals {
            self.administer(&format!("addprinc -randkey {principal}"));
            self.administer(&format!("ktadd -k {} {principal}", path.display()));
        }
        path
    }

    /// Has the administrator's program do something.
    pub fn administer(&self, query: &str) {
        let mut kadmin = self.command("kadmin.local");
        assert_ran(
            &kadmin
                .args(["-r", &self.name, "-q", query])
                .output()
                .unwrap(),
        );
    }

    /// Somebody's tickets, by the password that [`Realm::add`] gave.
    pub fn log_in(&self, principal: &str, args: &[&str]) -> Tickets {
        let tickets = Tickets(self.file(&format!("tickets-{}", principal.replace('/', "-"))));
        let mut kinit = self.command("kinit");
        let mut child = kinit
            .args(["-c", &tickets.name()])
            .args(args)
            .arg(principal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("{principal}\n").as_bytes()).unwrap();
        drop(stdin);
        assert_ran(&child.wait_with_output().unwrap());
        tickets
    }

    /// Whether tokens can be made one by one; says what is missing where they cannot.
    fn can_make_tokens() -> bool {
        let mut python = Command::new(PYTHON);
        let found = python.args(["-c", "import gssapi"]).output();
        let is_there = found.is_ok_and(|found| found.status.success());
        if !is_there {
            skip("Python has no gssapi (python3-gssapi)");
        }
        is_there
    }

    /// The first token of somebody for a service.
    pub fn token(&self, tickets: &Tickets, service: &str, wish: Wish<'_>) -> Vec<u8> {
        let mut tokens = self.tokens(tickets, service, wish, "token");
        tokens.remove(0)
    }

    /// The two tokens of somebody who offers another mechanism first.
    pub fn two_tokens(&self, tickets: &Tickets, service: &str) -> Vec<Vec<u8>> {
        self.tokens(tickets, service, Wish::default(), "two")
    }

    fn tokens(&self, tickets: &Tickets, service: &str, wish: Wish<'_>, how: &str) -> Vec<Vec<u8>> {
        let end_point = wish
            .end_point
            .map_or(String::new(), |data| STANDARD.encode(data));
        let mechanism = if wish.is_bare { "kerberos" } else { "spnego" };
        let made = self
            .command(PYTHON)
            .args(["-c", TOKEN, how, service, mechanism, &end_point])
            .env("KRB5CCNAME", tickets.name())
            .output()
            .unwrap();
        assert_ran(&made);
        let lines = String::from_utf8(made.stdout).unwrap();
        let lines = lines.lines();
        lines.map(|line| STANDARD.decode(line).unwrap()).collect()
    }

    /// How far a server's clock and a client's may be apart, in seconds.
    pub fn set_patience(&self, seconds: u32) {
        let settings = fs::read_to_string(self.file("krb5.conf")).unwrap();
        let line = format!("[libdefaults]\nclockskew = {seconds}\n");
        let settings = settings.replacen("[libdefaults]\n", &line, 1);
        fs::write(self.file("server.conf"), settings).unwrap();
    }

    /// A server that lives in this realm, as far as the library asks: it writes down the tickets it
    /// has seen in the realm's folder.
    pub fn around(&self, settings: Settings) -> Settings {
        let variables = [
            format!("KRB5_CONFIG={}", self.file("server.conf").display()),
            format!("KRB5RCACHENAME=file2:{}", self.file("seen").display()),
        ];
        settings.wrapper(&["env", &variables[0], &variables[1]])
    }
}

impl Tickets {
    /// The same, by a clock that is so many seconds off. The file begins with its version and the
    /// length of its fields, of which number 1 is what the client's clock differs from the KDC's.
    pub fn shifted(&self, seconds: i32) -> Self {
        let file = fs::read(&self.0).unwrap();
        assert_eq!(file[..2], [5, 4], "the format of all that is not ancient");
        let fields = usize::from(u16::from_be_bytes([file[2], file[3]]));
        let shift = [&[0, 1, 0, 8], &seconds.to_be_bytes()[..], &[0; 4]].concat();
        let head = [&[5, 4, 0, 12], &shift[..]].concat();
        let shifted = self.0.with_extension("shifted");
        fs::write(&shifted, [&head, &file[4 + fields..]].concat()).unwrap();
        Self(shifted)
    }

    /// As the library is told of them.
    pub fn name(&self) -> String {
        format!("FILE:{}", self.0.display())
    }
}

fn within(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("KRB5_CONFIG", folder.join("krb5.conf"))
        .env("KRB5_KDC_PROFILE", folder.join("kdc.conf"))
        .env("LC_ALL", "C");
    command
}

fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':')
        .any(|folder| Path::new(folder).join(program).exists())
}

#[track_caller]
fn assert_ran(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // kadmin.local ends well, whatever came of the query.
    assert!(!said.contains("while "), "{said}");
}

/// Debian's own, for which there is the package.
pub const PYTHON: &str = "/usr/bin/python3";

/// Prints tokens in base64. In two legs: SPNEGO that offers NEGOEX first and sends no token for it;
/// then the ticket, and a check of the list with the ticket's key (RFC 4178 5).
const TOKEN: &str = r#"
import base64, sys
import gssapi
from gssapi.raw import ChannelBindings
how, service, mechanism, end_point = sys.argv[1:]
KERBEROS = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2")
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
def tlv(tag, content):
    n = len(content)
    length = bytes([n]) if n < 128 else bytes([0x82]) + n.to_bytes(2, "big")
    return bytes([tag]) + length + content
def show(token):
    print(base64.b64encode(token).decode())
name = gssapi.Name(service, gssapi.NameType.kerberos_principal)
bindings = None
if end_point:
    bindings = ChannelBindings(application_data=base64.b64decode(end_point))
is_bare = how == "two" or mechanism == "kerberos"
context = gssapi.SecurityContext(name=name, usage="initiate", mech=KERBEROS if is_bare else SPNEGO,
    channel_bindings=bindings, flags=[gssapi.RequirementFlag.integrity])
token = context.step()
if how == "token":
    show(token)
else:
    oid = lambda encoded: tlv(0x06, bytes.fromhex(encoded))
    offered = tlv(0x30, oid("2b06010401823702021e") + oid("2a864886f712010202"))
    first = tlv(0xa0, tlv(0x30, tlv(0xa0, offered)))
    show(tlv(0x60, oid("2b0601050502") + first))
    check = tlv(0xa3, tlv(0x04, context.get_signature(offered)))
    show(tlv(0xa1, tlv(0x30, tlv(0xa2, tlv(0x04, token)) + check)))
"#;
