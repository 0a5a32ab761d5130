//! Which door opens to whom, and that a port is opened only when everything is in order.

#[cfg(test)]
mod common;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use serde_json::json;
    use server::{Layout, Listeners, Output, ServerError};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use x509::Crl;

    use crate::common::*;

    /// An address that was free a moment ago.
    fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn silent() -> Output {
        Output::to(Box::new(std::io::sink()))
    }

    async fn start_error(layout: &Layout) -> ServerError {
        match server::start(layout, silent()).await {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    }

    fn nobody_listens(addresses: &[SocketAddr]) {
        for address in addresses {
            let refused = TcpStream::connect(address).map_err(|error| error.kind());
            assert_eq!(refused.map(drop), Err(std::io::ErrorKind::ConnectionRefused), "{address}");
        }
    }

    /// A plain HTTP request in full, and the whole answer.
    async fn plain(at: SocketAddr, path: &str) -> (u16, Vec<u8>) {
        let mut tcp = tokio::net::TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tcp.read_to_end(&mut answer);
        tokio::time::timeout(wire::ANSWER_WITHIN, read).await.unwrap().unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    #[tokio::test]
    async fn a_taken_port_opens_no_other() {
        for taken_one in 0..4 {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut at = [free_address(), free_address(), free_address(), free_address()];
            at[taken_one] = taken.local_addr().unwrap();
            let listeners = Listeners { mqtt: at[0], devices: at[1], admin: at[2], plain: at[3] };
            let place = Place::with(listeners, &[]).await;
            let error = start_error(&place.layout).await;
            let ServerError::Bind { listener, address, config, .. } = &error else { panic!("{error}") };
            assert_eq!(*listener, ["mqtt", "devices", "admin", "plain"][taken_one]);
            assert_eq!((address, config), (&at[taken_one].to_string(), &place.layout.config()));
            assert_eq!(error.code(), "server.bind");
            let others: Vec<_> = at.into_iter().filter(|address| *address != at[taken_one]).collect();
            nobody_listens(&others);
            assert!(!place.layout.socket().exists());
            drop(taken);
            let (running, _) = place.serve().await;
            running.stop("test").await;
        }
    }

    #[tokio::test]
    async fn no_port_is_open_while_anything_is_not_in_order() {
        let at = [free_address(), free_address(), free_address(), free_address()];
        let place =
            Place::with(Listeners { mqtt: at[0], devices: at[1], admin: at[2], plain: at[3] }, &[]).await;
        let breaks: [(&str, &dyn Fn(), &str); 4] = [
            ("bailiwick.toml", &|| append(&place.layout.config(), "[nonsense]\n"), "server.config"),
            (
                "policy/assets.acl",
                &|| append(&place.layout.policy("assets.acl"), "nonsense\n"),
                "server.policy",
            ),
            ("keys/bundle.key.pem", &|| append(&place.layout.unlock_secret(), "x"), "server.key"),
            ("epoch", &|| append(&place.layout.dir().join("epoch"), "x"), "server.part"),
        ];
        for (file, break_it, code) in breaks {
            let touched = if file.starts_with("keys") { "unlock.secret" } else { file };
            let path = place.layout.dir().join(touched);
            let before = fs_err::read(&path).unwrap();
            break_it();
            assert_eq!(start_error(&place.layout).await.code(), code, "{file}");
            nobody_listens(&at);
            fs_err::write(&path, before).unwrap();
        }
        let (running, _) = place.serve().await;
        running.stop("test").await;
        nobody_listens(&at);
    }

    fn append(path: &std::path::Path, text: &str) {
        let before = fs_err::read_to_string(path).unwrap();
        fs_err::write(path, before + text).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_plain_listener_gives_lists_and_ca_certificates_and_nothing_else() {
        let place = Place::new().await;
        let (running, _) = place.serve().await;
        let at = running.addresses().plain;
        let device = place.device("pump-7").await;
        let answer = place.must("/api/v1/devices/pump-7/revoke", &json!({"reason": "keyCompromise"})).await;
        for label in ["root", "devices", "services", "servers"] {
            let ca = place.ca(label);
            let id = ca.issuer_id_as_ca();
            let (status, der) = plain(at, &format!("/ca/{id}.cer")).await;
            assert_eq!((status, der.as_slice()), (200, ca.der()), "{label}");
            let (status, der) = plain(at, &format!("/crl/{id}/0.crl")).await;
            assert_eq!(status, 200, "{label}");
            let crl = Crl::parse_der(&der).unwrap();
            crl.verify(&ca).unwrap();
            let revoked: Vec<_> = crl.serials().into_iter().map(|(serial, _)| serial).collect();
            if label == "devices" {
                assert_eq!(revoked, [device.chain[0].serial()]);
                assert_eq!(answer["crl"]["number"], crl.number());
            } else {
                assert_eq!(revoked, [], "{label}");
            }
        }
        // What the certificates themselves say leads here.
        let said = device.chain[0].crl_urls().remove(0);
        let path = said.strip_prefix("http://localhost:8080").unwrap();
        assert_eq!(plain(at, path).await.0, 200);
        let id = place.ca("devices").issuer_id_as_ca();
        for path in [
            "/",
            "/provision",
            "/ca/bundle",
            "/api/v1/status",
            "/api/v1/devices",
            "/metrics",
            "/healthz",
            "/readyz",
            "/generate-token",
            "/crl",
            "/ca",
            "/ca/../bailiwick.toml",
            "/ca/%2e%2e/unlock.secret",
            "/keys/devices.key.pem",
            &format!("/crl/{id}/1.crl"),
            &format!("/crl/{id}/0.txt"),
            &format!("/ca/{}.cer", "00".repeat(16)),
        ] {
            let (status, body) = plain(at, path).await;
            assert_eq!(status, 404, "{path}: {}", String::from_utf8_lossy(&body));
            assert!(!String::from_utf8_lossy(&body).contains("PRIVATE"), "{path}");
        }
        running.stop("test").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_operators_listener_is_for_operators_only() {
        let place = Place::new().await;
        let (running, log) = place.serve().await;
        let at = running.addresses().admin;
        let device = place.device("pump-7").await;
        let service = place.principal("/api/v1/services", "reader").await;
        let operator = place.principal("/api/v1/operators", "ada").await;

        let ok = place.https(Some(operator.identity()), at).get("/api/v1/status").await.unwrap();
        assert_eq!(ok.status, 200, "{}", ok.text());
        for (who, made) in [("pump-7", &device), ("reader", &service)] {
            let client = place.https(Some(made.identity()), at);
            for path in ["/api/v1/status", "/api/v1/devices", "/metrics", "/nowhere", "/api/openapi.json"] {
                let answer = client.get(path).await.unwrap();
                assert_eq!(answer.status, 403, "{who} {path}: {}", answer.text());
            }
            let body = json!({"device_id": "pump-7", "replace": true});
            let answer = client.post_json("/generate-token", &body).await.unwrap();
            assert_eq!(answer.status, 403, "{who}");
            assert!(!answer.text().contains("bw1."), "{who}");
            let answer = client.post_json("/api/v1/devices/pump-7/revoke", &json!({})).await.unwrap();
            assert_eq!(answer.status, 403, "{who}");
        }
        // Nothing came of it.
        assert_eq!(place.ask("/api/v1/devices/pump-7/restore", &json!({})).await.0, 409);
        // Without a certificate there is not even a handshake.
        assert!(place.https(None, at).get("/api/v1/status").await.is_err());
        // An operator of another installation is a stranger.
        let other = Place::new().await;
        let stranger = {
            let (running, _) = other.serve().await;
            let made = other.principal("/api/v1/operators", "eve").await;
            running.stop("test").await;
            made
        };
        assert!(place.https(Some(stranger.identity()), at).get("/api/v1/status").await.is_err());
        running.stop("test").await;
        // The lines are written apart from the requests; all of them are there when the server has stopped.
        assert!(log.text().contains("admin.not_an_operator"), "{}", log.text());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_operator_can_do_over_tls_what_the_socket_can() {
        let place = Place::new().await;
        let (running, _) = place.serve().await;
        let folder = place.layout.operator();
        let chain = fs_err::read_to_string(folder.join("admin.crt")).unwrap();
        let key = signer::FileKey::load(&folder.join("admin.key"), None).unwrap();
        let admin = Made { chain: x509::Certificate::parse_pem_chain(&chain).unwrap(), key };
        let client = place.https(Some(admin.identity()), running.addresses().admin);
        let added = client.post_json("/api/v1/devices", &json!({"id": "pump-7"})).await.unwrap();
        assert_eq!(added.status, 201, "{}", added.text());
        let unknown =
            client.post_json("/api/v1/devices", &json!({"id": "pump-8", "colour": 1})).await.unwrap();
        assert_eq!(unknown.status, 400);
        let ready = client.get("/readyz").await.unwrap();
        assert_eq!((ready.status.as_u16(), ready.json().unwrap()["status"].clone()), (200, json!("ready")));
        assert!(client.get("/metrics").await.unwrap().text().contains("bailiwick_sessions"));
        running.stop("test").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_devices_listener_knows_nothing_of_the_operators_api() {
        let place = Place::new().await;
        let (running, _) = place.serve().await;
        let device = place.device("pump-7").await;
        for identity in [None, Some(device.identity())] {
            let client = place.https(identity, running.addresses().devices);
            assert_eq!(client.get("/ca/bundle").await.unwrap().status, 200);
            for path in ["/api/v1/status", "/api/v1/devices", "/metrics", "/generate-token", "/"] {
                assert_eq!(client.get(path).await.unwrap().status, 404, "{path}");
            }
        }
        running.stop("test").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mqtt_without_a_certificate_or_with_a_servers_one_is_refused() {
        let place = Place::new().await;
        let (running, log) = place.serve().await;
        let at = running.addresses().mqtt;
        let nobody = place.connector(None, &[]);
        assert!(wire::Wire::open(&nobody, at, "x").await.is_err());
        // The server's own certificate, with its own key: of a CA that speaks for servers only.
        let chain = fs_err::read_to_string(place.layout.server_chain()).unwrap();
        let unlock = types::Secret::new(fs_err::read(place.layout.unlock_secret()).unwrap());
        let key = signer::FileKey::load(&place.layout.key("server"), Some(&unlock)).unwrap();
        let own = Made { chain: x509::Certificate::parse_pem_chain(&chain).unwrap(), key };
        let own = place.connector(Some(own.identity()), &[]);
        assert!(wire::Wire::open(&own, at, "x").await.is_err());
        running.stop("test").await;
        let refused = log.text().lines().filter(|line| line.contains("conn.refused")).count();
        assert_eq!(refused, 2, "{}", log.text());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stopped_server_can_be_started_again_in_the_same_process() {
        let place = Place::new().await;
        for round in 0..3 {
            let (running, log) = place.serve().await;
            assert!(TcpStream::connect(running.addresses().mqtt).is_ok(), "{round}");
            running.stop("test").await;
            assert!(log.text().contains("server.stopped"), "{}", log.text());
            assert!(!server::is_served(&place.layout).unwrap());
        }
    }
}
