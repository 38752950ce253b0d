//! The static binary's look-ups, against name servers that answer only half of what musl asks. They
//! are named in a `resolv.conf` of the binary's own mount namespace.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread;

use crate::support::bot::{ECHO, Stage, binary_at, binary_path, run};
use crate::support::skipped;

/// The script's exit code where nothing can be mounted.
const NO_MOUNT: i32 = 99;

/// Names with an IPv4 address are found whatever becomes of the question for an IPv6 one.
#[test]
fn a_name_server_that_knows_only_ipv4_is_enough() {
    if std::env::var_os("PRX_BIN").is_none() {
        return skipped("the look-ups are the static binary's: set PRX_BIN");
    }
    // What AAAA is answered with: NXDOMAIN, REFUSED, SERVFAIL, nothing.
    let answers = [Some(3), Some(5), Some(2), None];
    let skips = thread::scope(|scope| {
        let cases = (1..).zip(answers);
        let cases: Vec<_> = cases
            .map(|(number, answer)| scope.spawn(move || look_up(number, answer)))
            .collect();
        let results = cases.into_iter().map(|case| case.join().expect("no panic"));
        results.filter_map(Result::err).next()
    });
    if let Some(why) = skips {
        skipped(why);
    }
}

/// A round of the bot whose server's name is looked up at name server `number`. An error: why that
/// cannot be tried here.
fn look_up(number: u8, answer: Option<u8>) -> Result<(), &'static str> {
    let address = format!("127.53.53.{number}");
    let Ok(socket) = UdpSocket::bind((address.as_str(), 53)) else {
        return Err("no name server can listen on port 53 here");
    };
    thread::spawn(move || serve(&socket, answer));
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let conf = stage.folder.path().join("resolv.conf");
    let text = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
    fs::write(&conf, text).expect("a file");
    let url = stage.mattermost.url().replace("127.0.0.1", "chat.test");
    let script = format!("mount --bind \"$0\" /etc/resolv.conf || exit {NO_MOUNT}; exec \"$@\"");
    let mut command = binary_at(Path::new("unshare"));
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(conf)
        .arg(binary_path())
        .args(["run", "--once", "--config"])
        .arg(stage.config_path())
        .env("MATTERMOST_URL", url);
    let ran = run(&mut command, "");
    if ran.code == Some(NO_MOUNT) || ran.stderr.starts_with("unshare: ") {
        return Err("nothing can be mounted here, so no name server is asked");
    }
    assert_eq!(ran.code, Some(0), "AAAA {answer:?}: {ran:?}");
    Ok(())
}

/// Answers A with 127.0.0.1, and AAAA with the error `answer` or not at all.
fn serve(socket: &UdpSocket, answer: Option<u8>) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        // One question, whose type and class come last; then there may be an EDNS record.
        let name = query[12..length].iter().position(|byte| *byte == 0);
        let end = 12 + name.expect("a name") + 5;
        let mut reply = query[..end].to_vec();
        let is_ipv4 = query[end - 3] == 1;
        let Some(code) = (if is_ipv4 { Some(0) } else { answer }) else {
            continue;
        };
        reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
        reply[6..12].copy_from_slice(&[0, u8::from(is_ipv4), 0, 0, 0, 0]);
        if is_ipv4 {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&reply, from);
    }
}
