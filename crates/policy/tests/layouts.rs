//! The two shipped layouts as golden matrices: role, topic, action.

#[cfg(test)]
mod tests {
    use policy::{LAYOUT_ASSETS, LAYOUT_DEVICES, Source, Table, explain};
    use types::{Action, DeviceId, Principal, PrincipalKind, ProjectId, TopicFilter};

    fn principal(kind: PrincipalKind, name: &str) -> Principal {
        Principal { kind, name: DeviceId::parse(name).unwrap() }
    }

    fn may(table: &Table, who: &Principal, action: Action, text: &str) -> bool {
        let project = ProjectId::parse("default").unwrap();
        explain(table, who, &project, Some("north"), action, text).permitted
    }

    /// One line for each topic: p, s, r where the role may publish, subscribe, receive; a filter is
    /// neither published to nor received from.
    fn matrix(layout: &str, roles: &[Principal], topics: &[&str]) -> String {
        let table = Table::compile(&[Source { file: "layout.acl", text: layout }], 1).unwrap();
        let mut out = String::new();
        for topic in topics {
            assert!(TopicFilter::parse(topic).is_ok());
            out.push_str(&format!("{topic:<36}"));
            for role in roles {
                let letter = |action, letter| if may(&table, role, action, topic) { letter } else { '-' };
                out.push(' ');
                out.extend([
                    letter(Action::Publish, 'p'),
                    letter(Action::Subscribe, 's'),
                    letter(Action::Receive, 'r'),
                ]);
            }
            out.push('\n');
        }
        out
    }

    #[test]
    fn the_devices_layout_is_row_e2() {
        use PrincipalKind::{Device, Operator, Service};
        let roles = [
            principal(Device, "pump-7"),
            principal(Device, "pump-77"),
            principal(Device, "admin"),
            principal(Operator, "admin"),
            principal(Service, "Admin"),
            principal(Service, "other"),
        ];
        let topics = [
            "devices/pump-7/telemetry",
            "devices/pump-7/telemetry/environment",
            "devices/pump-7/telemetry/commands/x",
            "devices/pump-7/telemetry/#",
            "devices/pump-7/telemetry/+",
            "devices/pump-7/status",
            "devices/pump-7/status/x",
            "devices/pump-7/commands",
            "devices/pump-7/commands/interval",
            "devices/pump-7/commands/#",
            "devices/pump-7/commands/+",
            "devices/pump-7",
            "devices/pump-7/#",
            "devices/pump-7/other",
            "devices/PUMP-7/status",
            "devices/pump-77/status",
            "devices/pump-77/commands/interval",
            "devices/+/commands/#",
            "devices/+/commands/interval",
            "devices/+/telemetry/#",
            "devices/#",
            "devices/admin/status",
            "devices/%u/status",
            "#",
            "+/+/commands/#",
            "$SYS/broker/uptime",
            "$SYS/#",
            "other",
        ];
        let expected = "\
devices/pump-7/telemetry             p-- --- --- -sr -sr ---
devices/pump-7/telemetry/environment p-- --- --- -sr -sr ---
devices/pump-7/telemetry/commands/x  p-- --- --- -sr -sr ---
devices/pump-7/telemetry/#           --- --- --- -s- -s- ---
devices/pump-7/telemetry/+           --- --- --- -s- -s- ---
devices/pump-7/status                p-- --- --- -sr -sr ---
devices/pump-7/status/x              --- --- --- -sr -sr ---
devices/pump-7/commands              -sr --- --- psr psr ---
devices/pump-7/commands/interval     -sr --- --- psr psr ---
devices/pump-7/commands/#            -s- --- --- -s- -s- ---
devices/pump-7/commands/+            -s- --- --- -s- -s- ---
devices/pump-7                       --- --- --- -sr -sr ---
devices/pump-7/#                     --- --- --- -s- -s- ---
devices/pump-7/other                 --- --- --- -sr -sr ---
devices/PUMP-7/status                --- --- --- -sr -sr ---
devices/pump-77/status               --- p-- --- -sr -sr ---
devices/pump-77/commands/interval    --- -sr --- psr psr ---
devices/+/commands/#                 --- --- --- -s- -s- ---
devices/+/commands/interval          --- --- --- -s- -s- ---
devices/+/telemetry/#                --- --- --- -s- -s- ---
devices/#                            --- --- --- -s- -s- ---
devices/admin/status                 --- --- p-- psr -sr ---
devices/%u/status                    --- --- --- -sr -sr ---
#                                    --- --- --- -s- -s- ---
+/+/commands/#                       --- --- --- -s- -s- ---
$SYS/broker/uptime                   --- --- --- --- --- ---
$SYS/#                               --- --- --- --- --- ---
other                                --- --- --- -sr -sr ---
";
        assert_eq!(matrix(LAYOUT_DEVICES, &roles, &topics), expected);
    }

    #[test]
    fn the_assets_layout_is_row_e3() {
        use PrincipalKind::{Device, Operator, Service};
        let roles = [
            principal(Device, "truck-1"),
            principal(Device, "truck-2"),
            principal(Device, "backend-service"),
            principal(Service, "backend-service"),
            principal(Operator, "admin"),
        ];
        let topics = [
            "assets/truck-1/telemetry",
            "assets/truck-1/telemetry/x",
            "assets/truck-1/telemetry/#",
            "assets/truck-1/status",
            "assets/truck-1/commands/interval",
            "assets/truck-1/commands/#",
            "assets/truck-1",
            "assets/truck-1/#",
            "assets/truck-2/telemetry",
            "assets/truck-2/commands/interval",
            "assets/+/telemetry",
            "assets/+/status",
            "assets/+/commands/#",
            "assets/#",
            "assets",
            "assets/backend-service/status",
            "devices/truck-1/status",
            "#",
            "$SYS/#",
        ];
        let expected = "\
assets/truck-1/telemetry             p-- --- --- -sr ---
assets/truck-1/telemetry/x           --- --- --- -sr ---
assets/truck-1/telemetry/#           --- --- --- -s- ---
assets/truck-1/status                p-- --- --- -sr ---
assets/truck-1/commands/interval     -sr --- --- psr ---
assets/truck-1/commands/#            -s- --- --- -s- ---
assets/truck-1                       --- --- --- -sr ---
assets/truck-1/#                     --- --- --- -s- ---
assets/truck-2/telemetry             --- p-- --- -sr ---
assets/truck-2/commands/interval     --- -sr --- psr ---
assets/+/telemetry                   --- --- --- -s- ---
assets/+/status                      --- --- --- -s- ---
assets/+/commands/#                  --- --- --- -s- ---
assets/#                             --- --- --- -s- ---
assets                               --- --- --- -sr ---
assets/backend-service/status        --- --- p-- psr ---
devices/truck-1/status               --- --- --- --- ---
#                                    --- --- --- --- ---
$SYS/#                               --- --- --- --- ---
";
        assert_eq!(matrix(LAYOUT_ASSETS, &roles, &topics), expected);
    }

    #[test]
    fn both_layouts_hold_together_without_widening_each_other() {
        let sources = [
            Source { file: "devices.acl", text: LAYOUT_DEVICES },
            Source { file: "assets.acl", text: LAYOUT_ASSETS },
        ];
        let table = Table::compile(&sources, 1).unwrap();
        assert_eq!(table.rules(), 10);
        let truck = principal(PrincipalKind::Device, "truck-1");
        let backend = principal(PrincipalKind::Service, "backend-service");
        assert!(may(&table, &truck, Action::Publish, "assets/truck-1/telemetry"));
        assert!(may(&table, &truck, Action::Publish, "devices/truck-1/telemetry/x"));
        assert!(!may(&table, &backend, Action::Subscribe, "devices/#"));
        assert!(may(&table, &backend, Action::Subscribe, "assets/#"));
        assert!(!may(&table, &truck, Action::Subscribe, "assets/truck-2/telemetry"));
    }
}
