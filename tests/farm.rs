//! A farm of three nodes behind HAProxy, as docs/operations.md configures it: one is killed in
//! mid-upload (protocol.md 8.1).

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::program::{Program, free_address, snippet};
use support::raw::Response;
use support::server::{Server, Settings};
use support::{skip, wait_until};

const BYTES: u64 = 1_000_000;
const STEP: u64 = 100_000;

/// A client that follows BITS-Host-Id.
struct FarmClient {
    client: Client,
    proxy: SocketAddr,
    name: String,
    node: String,
    offset: u64,
}

impl FarmClient {
    fn new(proxy: SocketAddr, number: u64) -> Self {
        let name = format!("{number}.bin");
        let mut client = Client::new(proxy, &format!("/{name}")).seed(number);
        client.host = "farm.example".to_owned();
        let mut farm_client = Self {
            client,
            proxy,
            name,
            node: String::new(),
            offset: 0,
        };
        farm_client.create();
        farm_client
    }

    fn create(&mut self) {
        self.client.host = "farm.example".to_owned();
        let created = self.client.try_create();
        created.assert(200, None);
        assert_eq!(created.field("BITS-Host-Id-Fallback-Timeout"), Some("60"));
        self.node = created.field("BITS-Host-Id").expect("a node").to_owned();
        self.client.host.clone_from(&self.node);
        self.offset = 0;
        // As Windows does after it has heard of a node.
        self.client.ping().assert(200, None);
    }

    /// The next fragment; `None` if its node is not there.
    fn step(&mut self) -> Option<Response> {
        let end = BYTES.min(self.offset + STEP);
        let range = fragment(self.offset..end).of(BYTES);
        self.client.reconnect_to(self.proxy);
        let answer = self.client.try_send(&range)?;
        (answer.field("BITS-Packet-Type") == Some("Ack")).then_some(answer)
    }

    /// Uploads until the file is whole.
    fn finish(&mut self) {
        while self.offset < BYTES {
            let answer = self.step().expect("its node is there");
            assert!(matches!(answer.status, 200 | 416), "{answer:?}");
            let received = answer.received();
            assert!(received >= self.offset, "an acked byte is asked for again");
            self.offset = received;
        }
        self.client.close().assert(200, None);
    }
}

/// Three nodes, and HAProxy in front of them.
fn farm() -> Option<(Vec<Server>, SocketAddr, Program)> {
    if Command::new("haproxy").arg("-v").output().is_err() {
        skip("haproxy is not installed");
        return None;
    }
    let nodes: Vec<Server> = (1..=3)
        .map(|number| {
            let listen = free_address().to_string();
            let settings = Settings::default()
                .file(&format!("host_id = \"node{number}.example\""))
                .file("host_id_fallback = \"60s\"")
                .flags(&["--listen", &listen]);
            Server::with(settings)
        })
        .collect();
    let proxy = free_address();
    let mut configuration = snippet("haproxy", 3).replace("127.0.0.1:8081", &proxy.to_string());
    for (number, node) in (1..).zip(&nodes) {
        let written = format!("127.0.0.1:809{number}");
        assert!(configuration.contains(&written), "{configuration}");
        configuration = configuration.replace(&written, &node.address().to_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut haproxy = Program(command.spawn().unwrap());
    wait_until("the proxy listens", || {
        assert_eq!(haproxy.0.try_wait().unwrap(), None, "haproxy has ended");
        TcpStream::connect(proxy).is_ok()
    });
    Some((nodes, proxy, haproxy))
}

/// The names of the nodes are known to the proxy alone; where each packet went to any of them, no
/// session would be found.
#[test]
fn put_talks_to_the_node_that_has_its_session() {
    let Some((nodes, proxy, _haproxy)) = farm() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    let bytes = support::content::content(1, 0, BYTES);
    std::fs::write(&file, &bytes).unwrap();
    let mut put = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    put.args(["put", "--fragment-bytes", "50KB"]).arg(&file);
    put.env("XDG_STATE_HOME", folder.path());
    let done = put.arg(format!("http://{proxy}/")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(!said.contains("interruption"), "{said}");
    let standing = nodes.iter().filter(|node| node.file("a.bin").exists());
    assert_eq!(standing.count(), 1);
    for node in nodes {
        assert_eq!(node.work_files(), [""; 0], "no session is left behind");
    }
}

#[test]
fn no_file_is_lost_when_a_node_of_a_farm_is_killed() {
    let Some((mut nodes, proxy, _haproxy)) = farm() else {
        return;
    };
    let mut clients: Vec<FarmClient> = (0..12)
        .map(|number| FarmClient::new(proxy, number))
        .collect();
    let lost = "node1.example";
    assert!(clients.iter().filter(|client| client.node == lost).count() >= 2);
    for client in &mut clients {
        for _ in 0..4 {
            let answer = client.step().unwrap();
            answer.assert(200, None);
            client.offset = answer.received();
        }
    }

    nodes[0].kill9();
    let (at_lost, others): (Vec<_>, Vec<_>) =
        (clients.iter_mut()).partition(|client| client.node == lost);
    for client in others {
        client.finish();
    }
    let (mut waiting, mut leaving) = (at_lost, Vec::new());
    for client in &mut waiting {
        assert!(client.step().is_none(), "its node is gone");
    }
    leaving.extend(waiting.pop());
    // Their fall-back time is over: they go back to the name of the farm, and begin anew where it
    // leads them.
    wait_until("the proxy has noticed", || {
        let mut client = Client::new(proxy, "/x");
        (0..6).all(|_| client.ping().status == 200)
    });
    for client in &mut leaving {
        client.client.host = "farm.example".to_owned();
        let answer = client.step().expect("another node");
        answer.assert(500, Some(SESSION_NOT_FOUND));
        client.create();
        assert_ne!(client.node, lost);
        client.finish();
    }
    // The others come back by its name, and go on where they were.
    nodes[0].restart();
    for client in &mut waiting {
        assert_eq!(client.offset, 4 * STEP);
        client.finish();
    }

    for client in clients {
        let number = client.name.trim_end_matches(".bin").parse().unwrap();
        let standing: Vec<_> = (nodes.iter())
            .filter(|node| node.file(&client.name).exists())
            .collect();
        let [node] = standing[..] else {
            panic!("{} stands on {} nodes", client.name, standing.len());
        };
        node.assert_file(&client.name, number, BYTES);
    }
}
