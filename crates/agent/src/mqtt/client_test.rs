use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::{Client, ClientError, ConnackRefusal, Options, QoS, Session};

/// A client and the broker at the other end, connected.
async fn pair(options: Options) -> (Client, Fake<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut fake = Fake::new(far);
    let mut session = Session::default();
    let (client, _) = tokio::join!(Client::connect_over(near, options, &mut session), fake.welcome(false));
    (client.unwrap(), fake)
}

/// Connects to a broker that answers CONNECT with these bytes.
async fn refused_by(answer: &[u8], options: Options) -> ClientError {
    let (near, far) = tokio::io::duplex(1024);
    let mut fake = Fake::new(far);
    let mut session = Session::default();
    let broker = async {
        fake.next().await.unwrap();
        fake.send(answer).await;
        drop(fake);
    };
    let (client, ()) = tokio::join!(Client::connect_over(near, options, &mut session), broker);
    client.err().unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_answer_to_connect_but_acceptance_is_an_error_of_its_own() {
    let options = || Options::new("d");
    let error = refused_by(&[0x20, 2, 0, 5], options()).await;
    assert_eq!(error, ClientError::Refused { why: ConnackRefusal::NotAuthorized });
    assert!(error.is_denial());
    assert!(matches!(refused_by(&[], options()).await, ClientError::Closed { .. }));
    assert!(matches!(refused_by(&[0xd0, 0], options()).await, ClientError::Protocol { .. }));
    let error = refused_by(&[0x20, 2, 1, 0], options()).await;
    assert!(matches!(error, ClientError::Protocol { .. }), "a session where a clean one was asked for");
    let (near, _far) = tokio::io::duplex(1024);
    let error = Client::connect_over(near, options(), &mut Session::default()).await.err().unwrap();
    assert_eq!(error, ClientError::Timeout { what: "CONNACK", after: Duration::from_secs(15) });
}

#[tokio::test(start_paused = true)]
async fn a_publish_returns_when_it_is_written_or_acknowledged() {
    let (client, mut fake) = pair(Options::new("d")).await;
    client.publish("a", b"0", QoS::AtMostOnce, true).await.unwrap();
    let first = fake.published().await;
    assert_eq!((first.topic.as_str(), first.payload.as_str()), ("a", "0"));
    assert_eq!((first.packet_id, first.retain), (None, true));
    let (published, second) =
        tokio::join!(client.publish("a", b"1", QoS::AtLeastOnce, false), fake.acknowledged());
    published.unwrap();
    assert_eq!((second.packet_id, second.dup), (Some(1), false));
    let error = client.publish("a/#", b"", QoS::AtLeastOnce, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Unsendable { .. }));
    let error = client.publish("a", b"", QoS::ExactlyOnce, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Unsendable { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_granted_or_refused_and_its_messages_are_acknowledged() {
    let (mut client, mut fake) = pair(Options::new("d")).await;
    let (granted, filter) = tokio::join!(client.subscribe("c/#", QoS::AtLeastOnce), fake.subscribed(1));
    granted.unwrap();
    assert_eq!(filter, "c/#");
    let (refused, _) = tokio::join!(client.subscribe("#", QoS::AtLeastOnce), fake.subscribed(0x80));
    assert_eq!(refused, Err(ClientError::SubscriptionRefused { filter: "#".into() }));
    fake.deliver("c/x", "hello", 77).await;
    let message = client.recv().await.unwrap();
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("c/x", b"hello".as_slice()));
    assert_eq!(message.qos, QoS::AtLeastOnce);
    let puback = fake.next().await.unwrap();
    assert_eq!((puback.first, puback.packet_id()), (0x40, 77));
}

#[tokio::test(start_paused = true)]
async fn pings_keep_the_line_alive_and_a_missing_answer_ends_it() {
    let (client, mut fake) = pair(Options::new("d").with_keep_alive(Duration::from_secs(40))).await;
    let begun = tokio::time::Instant::now();
    for round in 1..=3 {
        assert_eq!(fake.next().await.unwrap().first, 0xc0);
        assert_eq!(begun.elapsed().as_secs(), 30 * round, "at three quarters of the keep-alive");
        fake.send(&[0xd0, 0]).await;
    }
    assert_eq!(fake.next().await.unwrap().first, 0xc0);
    let error = client.closed().await;
    assert_eq!(error, ClientError::Timeout { what: "PINGRESP", after: Duration::from_secs(15) });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_sends_still_notices_that_nobody_answers() {
    let (client, mut fake) = pair(Options::new("d").with_keep_alive(Duration::from_secs(40))).await;
    let sending = async {
        loop {
            if client.publish("a", b"x", QoS::AtMostOnce, false).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let swallowing = async { while fake.next().await.is_some() {} };
    tokio::select! {
        () = sending => {}
        () = swallowing => {}
    }
    assert!(matches!(client.closed().await, ClientError::Timeout { what: "PINGRESP", .. }));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_sent_again_with_its_id_when_the_session_resumes() {
    let (client, mut fake) = pair(Options::new("d").keeping_session()).await;
    for payload in ["1", "2", "3"] {
        client.start_publish("a", payload.as_bytes(), QoS::AtLeastOnce, false).await.unwrap();
    }
    let sent = [fake.published().await, fake.published().await, fake.published().await];
    fake.puback(sent[1].packet_id.unwrap()).await;
    let mut unacknowledged = client.watch_unacknowledged();
    unacknowledged.wait_for(|count| *count == 2).await.unwrap();
    drop(fake);
    assert!(matches!(client.closed().await, ClientError::Closed { .. }));
    let mut session = client.into_session().await;
    assert_eq!(session.unacknowledged(), 2);

    // A broker that refuses does not cost the session.
    let (near, far) = tokio::io::duplex(1024);
    let mut fake = Fake::new(far);
    let refusing = async {
        fake.next().await.unwrap();
        fake.send(&[0x20, 2, 0, 3]).await;
    };
    let options = Options::new("d").keeping_session();
    let (refused, ()) = tokio::join!(Client::connect_over(near, options.clone(), &mut session), refusing);
    assert!(refused.is_err());
    assert_eq!(session.unacknowledged(), 2);

    for (session_present, dup) in [(true, true), (false, false)] {
        let (near, far) = tokio::io::duplex(1024);
        let mut fake = Fake::new(far);
        let (client, _) = tokio::join!(
            Client::connect_over(near, options.clone(), &mut session),
            fake.welcome(session_present)
        );
        let client = client.unwrap();
        assert_eq!(client.session_present(), session_present);
        for original in [&sent[0], &sent[2]] {
            let again = fake.published().await;
            assert_eq!(again.packet_id, original.packet_id);
            assert_eq!(again.payload, original.payload);
            assert_eq!(again.dup, dup);
        }
        session = client.into_session().await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_window_wait_and_are_in_the_session_when_the_line_breaks() {
    let mut options = Options::new("d").keeping_session();
    options.in_flight_max = 2;
    let (client, mut fake) = pair(options).await;
    for payload in ["1", "2", "3", "4"] {
        client.start_publish("a", payload.as_bytes(), QoS::AtLeastOnce, false).await.unwrap();
    }
    assert_eq!(fake.published().await.payload, "1");
    assert_eq!(fake.published().await.payload, "2");
    let third = tokio::time::timeout(Duration::from_secs(5), fake.next()).await;
    assert!(third.is_err(), "{third:?}");
    drop(fake);
    client.closed().await;
    assert_eq!(client.into_session().await.unacknowledged(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_read_stops_the_reading_and_loses_nothing() {
    let mut options = Options::new("d");
    options.received_max = 2;
    let (mut client, mut fake) = pair(options).await;
    for id in 1..=5_u16 {
        fake.deliver("c", &id.to_string(), id).await;
    }
    for id in 1..=2_u16 {
        assert_eq!(fake.next().await.unwrap().packet_id(), id);
    }
    for id in 1..=5_u16 {
        assert_eq!(client.recv().await.unwrap().payload, id.to_string().as_bytes());
    }
    for id in 3..=5_u16 {
        assert_eq!(fake.next().await.unwrap().packet_id(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_said_and_a_cut_is_not() {
    let (client, mut fake) = pair(Options::new("d")).await;
    let pending = client.start_publish("a", b"last", QoS::AtMostOnce, false).await.unwrap();
    let goodbye: JoinHandle<Session> = tokio::spawn(client.disconnect());
    assert_eq!(fake.published().await.payload, "last");
    assert_eq!(fake.next().await.unwrap().first, 0xe0);
    assert_eq!(fake.next().await, None);
    goodbye.await.unwrap();
    pending.acknowledged().await.unwrap();

    let (client, mut fake) = pair(Options::new("d")).await;
    drop(client);
    assert_eq!(fake.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_breaks_the_protocol_is_left_with_the_reason() {
    for bytes in [[0x20, 2, 0, 0].as_slice(), &[0x34, 6, 0, 1, b'a', 0, 1, b'x'], &[0xf0, 0]] {
        let (mut client, mut fake) = pair(Options::new("d")).await;
        fake.send(bytes).await;
        let error = client.recv().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{bytes:x?} {error}");
        let later = client.publish("a", b"", QoS::AtLeastOnce, false).await.unwrap_err();
        assert_eq!(later, error);
    }
}
