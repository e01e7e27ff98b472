//! Who gets nothing: strangers, other sites, what is no request.

mod common;

use common::{TOKEN, ask, get, options, request, server, subject, window};
use mtcae_serve::Server;

#[test]
fn without_the_token_there_is_the_empty_page_and_nothing_else() {
    let mut server = server();
    server.tell(&window(0)).expect("told");
    let address = server.address();
    let with = |authorization: &str, path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        ask(address, text.as_bytes())
    };
    for path in [
        "/v1/results",
        "/v1/events",
        "/v1/status",
        "/page/events",
        "/x",
    ] {
        for wrong in [
            String::new(),
            "Authorization: Bearer\r\n".to_owned(),
            format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
            format!("Authorization: Bearer {TOKEN}x\r\n"),
            format!("Authorization: Basic {TOKEN}\r\n"),
            format!("Cookie: token={TOKEN}\r\n"),
        ] {
            let (status, head, body) = with(&wrong, path);
            assert_eq!(status, 401, "{wrong} {path}: {body}");
            assert!(head.contains("WWW-Authenticate: Bearer"), "{head}");
            assert!(!body.contains("happy"), "{body}");
        }
        // Nor does an address have it, which would be in histories and logs.
        assert_eq!(with("", &format!("{path}?token={TOKEN}")).0, 401);
    }
    let (status, head, page) = with("", "/");
    assert_eq!(status, 200);
    assert!(page.contains("<html") && !page.contains(TOKEN));
    // The page has names of classes, and nothing that was said.
    assert!(page.contains("\"results\":[]") && !page.contains("id=\"pack-0\""));
    for field in [
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy: same-origin",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    assert!(!head.contains("unsafe-inline") && !head.contains("Access-Control"));
}

#[test]
fn other_names_and_other_sites_are_refused_even_with_the_token() {
    let server = server();
    let address = server.address();
    let port = address.port();
    let with = |path: &str, fields: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n{fields}\r\n");
        ask(address, text.as_bytes()).0
    };
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for (fields, expected) in [
        (own.clone(), 200),
        (format!("Host: localhost:{port}\r\n"), 200),
        (format!("{own}Origin: http://127.0.0.1:{port}\r\n"), 200),
        (format!("{own}Sec-Fetch-Site: same-origin\r\n"), 200),
        (String::new(), 403),
        ("Host: 127.0.0.1\r\n".to_owned(), 403),
        (format!("Host: evil.example:{port}\r\n"), 403),
        (format!("Host: 127.0.0.1.nip.io:{port}\r\n"), 403),
        (format!("{own}Origin: http://evil.example\r\n"), 403),
        (format!("{own}Origin: http://127.0.0.1:1\r\n"), 403),
        (format!("{own}Origin: http://localhost:{port}\r\n"), 403),
        (format!("{own}Origin: https://127.0.0.1:{port}\r\n"), 403),
        (format!("{own}Origin: null\r\n"), 403),
        (format!("{own}Sec-Fetch-Site: cross-site\r\n"), 403),
        (format!("{own}Sec-Fetch-Site: same-site\r\n"), 403),
        (format!("{own}{own}"), 400),
    ] {
        assert_eq!(with("/v1/status", &fields), expected, "{fields}");
    }
    // Whoever follows a link comes to the page, which has no answers in it; not by another name.
    assert_eq!(
        with("/", &format!("{own}Sec-Fetch-Site: cross-site\r\n")),
        200
    );
    assert_eq!(with("/", &format!("Host: evil.example:{port}\r\n")), 403);
}

#[test]
fn nothing_is_reached_by_other_paths_methods_and_heads() {
    let server = server();
    let address = server.address();
    for path in [
        "/../Cargo.toml",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/../../etc/passwd",
        "//etc/passwd",
        "/v1/results/",
        "/V1/results",
        "/v1/results%00",
        "/page",
        "/index.html",
        "/.git/config",
        "/file:///etc/passwd",
    ] {
        let (status, _, body) = get(address, path);
        assert_eq!(
            (status, &body[..]),
            (404, "there is nothing of this name\n"),
            "{path}"
        );
    }
    let of = |method: &str| request(address, "/v1/status").replacen("GET", method, 1);
    for method in [
        "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get",
    ] {
        let (status, head, _) = ask(address, of(method).as_bytes());
        assert!(
            status == 405 && head.contains("Allow: GET, HEAD"),
            "{method}: {head}"
        );
    }
    let (status, head, body) = ask(address, of("HEAD").as_bytes());
    assert!(
        status == 200 && body.is_empty() && head.contains("Content-Length: "),
        "{head}"
    );
    let body = request(address, "/").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nabcd");
    assert_eq!(ask(address, body.as_bytes()).0, 413);
    for giant in [
        format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(200)),
    ] {
        assert_eq!(ask(address, giant.as_bytes()).0, 431);
    }
    // A second request behind the first is not looked at.
    let two = request(address, "/v1/status").repeat(2);
    let (status, _, body) = ask(address, two.as_bytes());
    assert!(status == 200 && !body.contains("HTTP/1.1"), "{body}");
}

#[test]
fn addresses_and_tokens_that_let_others_in_are_refused() {
    let mut anyone = options();
    anyone.address = "0.0.0.0:0".parse().expect("an address");
    let said = |options| {
        let refusal = Server::start(&options, subject()).err();
        refusal.expect("refused").to_string()
    };
    let words = said(anyone.clone());
    assert!(
        words.contains("0.0.0.0:0 is no address of this machine alone"),
        "{words}"
    );
    anyone.anyone = true;
    let server = Server::start(&anyone, subject()).expect("as it was asked for");
    assert!(server.url().starts_with("http://127.0.0.1:"));
    let mut guessed = options();
    guessed.token = Some("secret".to_owned());
    assert!(said(guessed).contains("16 to 256 characters"));
    let mut nowhere = options();
    nowhere.address = "127.0.0.1:1".parse().expect("an address");
    nowhere.token = None;
    // Only root may listen there.
    if let Err(e) = Server::start(&nowhere, subject()) {
        assert!(e.to_string().starts_with("127.0.0.1:1: "), "{e}");
    }
}
