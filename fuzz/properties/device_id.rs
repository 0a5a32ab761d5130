//! A text that is taken for a device id is one literal level of a topic, whatever was written.

use types::{DeviceId, Topic, TopicFilter};

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((id, original)) = DeviceId::parse_written(text) {
        let name = id.as_str();
        assert_eq!(DeviceId::parse_written(name).unwrap(), (id.clone(), None));
        assert_eq!(original.as_deref().unwrap_or(name), text);
        assert_eq!(DeviceId::parse(&id.folded()).unwrap(), id, "unique whatever its case");
        let topic = format!("devices/{name}/status");
        assert_eq!(Topic::parse(&topic).unwrap().levels().count(), 3);
        assert!(!TopicFilter::parse(&topic).unwrap().has_wildcard());
        assert!(!name.contains("..") && name.is_ascii(), "a file may be named after it");
    }
    if let Ok(id) = DeviceId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
}
