//! What those get who have the token.

mod common;

use std::io::Write;

use common::{connect, get, options, request, server, subject, until, window};
use mtcae_dfer::{Answer, Ended, Results};
use mtcae_serve::Server;

fn ended(windows: u64) -> Ended {
    Ended {
        windows,
        frames: 40,
        dropped: 3,
        warnings: vec![],
    }
}

#[test]
fn results_are_a_file_of_results_of_what_was_told() {
    let mut server = server();
    let empty = get(server.address(), "/v1/results");
    let results = Results::parse(empty.2.as_bytes()).expect("results");
    assert_eq!(results.answer, Answer::Windows(vec![]));
    for n in 0..5 {
        server.tell(&window(n)).expect("told");
    }
    let (status, head, body) = get(server.address(), "/v1/results");
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("Mtcae-Left-Out: 0"), "{head}");
    let Answer::Windows(timelines) = Results::parse(body.as_bytes()).expect("results").answer
    else {
        panic!("no windows");
    };
    let told: Vec<_> = (0..5).flat_map(|n| window(n).predictions).collect();
    assert_eq!(timelines[0].windows, told);
    let status = get(server.address(), "/v1/status").2;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(
        (&status["state"], &status["windows"], &status["kept"]),
        (&"running".into(), &5.into(), &5.into())
    );
}

#[test]
fn events_are_lines_and_go_on_where_a_reader_left_off() {
    let mut server = server();
    for n in 0..3 {
        server.tell(&window(n)).expect("told");
    }
    let address = server.address();
    let mut stream = connect(address);
    let ask = request(address, "/v1/events");
    stream.write_all(ask.as_bytes()).expect("sent");
    let first = until(&mut stream, "-2\ndata: {\"prediction\":");
    assert!(first.contains("Content-Type: text/event-stream"), "{first}");
    assert!(first.contains("event: head\ndata: {\"format\":\"mtcae-lines\""));
    server.tell(&window(3)).expect("told");
    until(&mut stream, "-3\ndata: ");
    drop(stream);

    // The lines are what a file of lines has.
    let data = first.lines().filter_map(|l| l.strip_prefix("data: "));
    let lines: Vec<&str> = data.collect();
    let results = Results::parse(lines.join("\n").as_bytes()).expect("lines");
    assert!(results.answer.predictions().len() >= 2);

    server.tell(&window(4)).expect("told");
    server.end(&ended(5));
    let id = first.lines().find_map(|l| l.strip_prefix("id: "));
    let run = id.and_then(|id| id.rsplit_once('-')).expect("an id").0;
    let again = |last: &str| {
        let mut stream = connect(address);
        let more = ask.replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {last}\r\n\r\n"));
        stream.write_all(more.as_bytes()).expect("sent");
        until(&mut stream, "\"warnings\":[],\"windows\":5}\n\n")
    };
    let rest = again(&format!("{run}-3"));
    assert!(rest.contains("-4\ndata: ") && !rest.contains("-3\ndata: "));
    assert!(rest.contains("event: end\ndata: {"), "{rest}");
    // What is no event of this run is as good as none.
    for other in ["x-3", "", "3", "\u{e9}"] {
        assert!(again(other).contains("-0\ndata: "), "{other}");
    }
}

#[test]
fn what_is_not_kept_any_more_is_said() {
    let mut server = server();
    // A line of these has some 8 kB, and 8 MiB of them are kept.
    for n in 0..2500 {
        server.tell(&window(n)).expect("told");
    }
    let address = server.address();
    let mut stream = connect(address);
    stream
        .write_all(request(address, "/v1/events").as_bytes())
        .expect("sent");
    let text = until(&mut stream, "\"start\":1249.5,");
    let said = text.split("event: left-out\ndata: {\"count\":").nth(1);
    let count: u64 = said
        .and_then(|s| s.split('}').next()?.parse().ok())
        .expect("how many");
    assert!(count > 500, "{count}");
    let first = text.lines().find(|l| l.starts_with("id: "));
    assert!(first.expect("an id").ends_with(&format!("-{count}")));
    let (_, head, body) = get(address, "/v1/results");
    assert!(head.contains(&format!("Mtcae-Left-Out: {count}")), "{head}");
    let Answer::Windows(timelines) = Results::parse(body.as_bytes()).expect("results").answer
    else {
        panic!("no windows");
    };
    assert_eq!(timelines[0].windows.len() as u64, 2500 - count);
}

#[test]
fn the_page_s_events_are_pieces_that_its_script_takes() {
    let mut server = server();
    server.tell(&window(0)).expect("told");
    server.end(&ended(1));
    let mut stream = connect(server.address());
    stream
        .write_all(request(server.address(), "/page/events").as_bytes())
        .expect("sent");
    let text = until(&mut stream, "event: end");
    let piece = text.lines().find_map(|l| l.strip_prefix("data: "));
    let piece: serde_json::Value = serde_json::from_str(piece.expect("a piece")).expect("JSON");
    assert_eq!(piece["results"]["people"][0]["shape"]["windows"], 1);
    assert_eq!(piece["classes"], serde_json::json!(["happy", "sad"]));
    assert!(piece["pack"].as_str().is_some_and(|pack| !pack.is_empty()));
}

#[test]
fn a_server_that_is_dropped_gives_its_port_back() {
    let server = server();
    let address = server.address();
    let mut reader = connect(address);
    reader
        .write_all(request(address, "/v1/events").as_bytes())
        .expect("sent");
    until(&mut reader, "event: head");
    let same = || {
        let mut options = options();
        options.address = address;
        Server::start(&options, subject())
    };
    let refusal = same().err().expect("it is in use").to_string();
    assert_eq!(refusal, format!("{address} is in use by another program"));
    drop(server);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(same().is_ok());
}
