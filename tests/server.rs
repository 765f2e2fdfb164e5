//! The real binary on real sockets and a real disk.

mod support;

use support::client::{Client, fragment};
use support::content::content;
use support::server::Server;

#[test]
fn an_upload_ends_at_its_destination() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(
        client.send(fragment(0..100_000).of(250_000)).received(),
        100_000
    );
    assert_eq!(client.send(fragment(100_000..250_000)).received(), 250_000);
    assert!(
        !server.file("a.bin").exists(),
        "nothing appears before Close"
    );
    client.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 250_000)
    );
}
