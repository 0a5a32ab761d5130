//! A filter prints and parses to itself, and matches as the standard says. The first line of the input is the
//! filter, the second a topic.

use types::{Topic, TopicFilter, topic_matches};

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, "a/b"));
    if let Ok((share, filter)) = TopicFilter::parse_shared(first) {
        let printed = match &share {
            Some(share) => format!("$share/{}/{filter}", share.as_str()),
            None => filter.to_string(),
        };
        assert_eq!(printed, first);
        assert_eq!(TopicFilter::parse_shared(&printed).unwrap(), (share, filter));
    }
    let Ok(filter) = TopicFilter::parse(first) else {
        assert!(Topic::parse(first).is_err(), "a topic is a filter without wildcards");
        return;
    };
    assert_eq!(filter.as_str(), first);
    assert!(filter.covers(&filter) || filter.as_str().starts_with('$'));
    match Topic::parse(first) {
        Ok(topic) => assert!(!filter.has_wildcard() && filter.matches(topic)),
        Err(_) => assert!(filter.has_wildcard()),
    }
    let Ok(topic) = Topic::parse(second) else { return };
    let wild = first.starts_with(['+', '#']);
    let expected = !(second.starts_with('$') && wild) && naive(first, second);
    assert_eq!(topic_matches(&filter, topic), expected);
    let exact = TopicFilter::parse(second).unwrap();
    assert_eq!(filter.covers(&exact), expected, "a filter covers exactly the topics that it matches");
}

/// The standard's words on whole lists of levels.
fn naive(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    let open = filter.last() == Some(&"#");
    let fixed = if open { &filter[..filter.len() - 1] } else { &filter[..] };
    let long_enough = if open { topic.len() >= fixed.len() } else { topic.len() == fixed.len() };
    long_enough && fixed.iter().zip(&topic).all(|(wanted, level)| *wanted == "+" || wanted == level)
}
