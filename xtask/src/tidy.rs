//! `cargo xtask tidy`: the crates' edges, their NEVER list, the licences and the files, held against the rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::run::{Outcome, captured, command, root};
use crate::{attacks, source};

/// The layer of each crate; an edge may go down a layer, or be one of [`EDGES`].
const LAYERS: &[(&str, &[&str])] = &[
    ("L0", &["types"]),
    ("L1", &["x509", "trust", "ca", "policy", "guard", "mqtt", "audit"]),
    ("L2", &["signer", "store", "tls"]),
    ("L3", &["enroll", "broker", "admin", "agent"]),
    ("L4", &["server", "cli"]),
];
/// The edges inside a layer that the design names.
const EDGES: &[(&str, &str)] = &[
    ("trust", "x509"),
    ("ca", "x509"),
    ("ca", "trust"),
    ("policy", "trust"),
    ("mqtt", "policy"),
    ("mqtt", "guard"),
    ("signer", "tls"),
    ("store", "tls"),
    ("cli", "server"),
];
/// What a crate must never reach, by whatever path.
const NEVER: &[(&str, &[&str])] = &[
    ("broker", &["ca", "signer", "enroll", "admin", "agent"]),
    ("store", &["ca", "signer"]),
    ("agent", &["ca", "store", "broker", "enroll", "admin"]),
    ("enroll", &["broker", "admin", "agent"]),
    ("admin", &["broker", "enroll", "agent", "ca"]),
];
/// What the pure layers (L0, L1) must never reach: async, sockets, files, logging.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "rustls",
    "tokio-rustls",
    "rusqlite",
    "fs-err",
    "tracing-subscriber",
    "tempfile",
];
/// Crates that must not know how to read themselves from outside text.
const NO_DESERIALIZE: &[&str] = &["types", "trust", "ca", "policy", "guard"];
/// Who may depend on a sensitive library directly.
const WRAPPED: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("rustls", &["tls", "broker", "benches"]),
    ("tokio-rustls", &["tls", "benches", "agent"]),
    ("x509-cert", &["x509"]),
    ("x509-parser", &["x509"]),
    ("rustls-webpki", &["x509"]),
    ("mqtt-protocol-core", &["mqtt", "agent", "benches"]),
];
/// Libraries of which one version only may be linked.
const SINGLE: &[&str] = &["rustls", "aws-lc-rs", "rustls-webpki", "tokio", "x509-cert"];
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
];

/// The workspace and what it depends on, as cargo tells it.
struct Graph {
    /// Workspace crate → its normal dependencies by package name.
    direct: BTreeMap<String, BTreeSet<String>>,
    /// Package id → the ids of its normal dependencies.
    resolved: BTreeMap<String, Vec<String>>,
    names: BTreeMap<String, (String, String, String)>,
    members: BTreeMap<String, String>,
    /// Workspace crates that have cargo features of their own.
    featured: Vec<String>,
}

/// Prints what is wrong, or one line of counts.
pub(crate) fn tidy() -> Outcome {
    let text = captured(command("cargo", &["metadata", "--format-version", "1", "--locked"]))
        .or_else(|_| captured(command("cargo", &["metadata", "--format-version", "1"])))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let graph = Graph::read(&metadata);
    let files = source::rust_files()?;
    let mut breaches = graph.breaches();
    breaches.extend(source::breaches(&files));
    breaches.extend(undocumented(&graph));
    breaches.extend(attacks::breaches(&files));
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if breaches.is_empty() {
        println!(
            "tidy: {} crates, {} packages, {} Rust files: edges, licences and files in order",
            graph.members.len(),
            graph.names.len(),
            files.len()
        );
        Ok(())
    } else {
        Err(format!("{} breaches of the rules", breaches.len()))
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let mut graph = Self {
            featured: Vec::new(),
            direct: BTreeMap::new(),
            resolved: BTreeMap::new(),
            names: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        let members: BTreeSet<String> = strings(&metadata["workspace_members"]).map(text).collect();
        for package in strings(&metadata["packages"]) {
            let (id, name) = (text(&package["id"]), text(&package["name"]));
            if members.contains(&id) {
                let normal = strings(&package["dependencies"]).filter(|dep| dep["kind"].is_null());
                graph.direct.insert(name.clone(), normal.map(|dep| text(&dep["name"])).collect());
                graph.members.insert(name.clone(), id.clone());
                if package["features"].as_object().is_some_and(|features| !features.is_empty()) {
                    graph.featured.push(name.clone());
                }
            }
            graph.names.insert(id, (name, text(&package["version"]), text(&package["license"])));
        }
        for node in strings(&metadata["resolve"]["nodes"]) {
            let normal = strings(&node["deps"])
                .filter(|dep| strings(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()))
                .map(|dep| text(&dep["pkg"]));
            graph.resolved.insert(text(&node["id"]), normal.collect());
        }
        graph
    }

    /// The names of all that a workspace crate links, however far away.
    fn reach(&self, member: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<&String> = self.members.get(member).into_iter().collect();
        while let Some(id) = todo.pop() {
            for next in self.resolved.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.names.get(id)).map(|(name, _, _)| name.as_str()).collect()
    }

    fn breaches(&self) -> Vec<String> {
        let mut found = self.edge_breaches();
        let pure = LAYERS.iter().take(2).flat_map(|(_, names)| names.iter());
        for name in pure {
            let reach = self.reach(name);
            for impure in IMPURE.iter().filter(|impure| reach.contains(*impure)) {
                found.push(format!("{name} is pure and must never reach {impure}"));
            }
        }
        for (name, never) in NEVER {
            let reach = self.reach(name);
            for far in never.iter().filter(|far| reach.contains(*far)) {
                found.push(format!("{name} must never reach {far}"));
            }
        }
        for name in NO_DESERIALIZE {
            if self
                .direct
                .get(*name)
                .is_some_and(|deps| deps.contains("serde") || deps.contains("serde_json"))
            {
                found.push(format!("{name} must not know serde: row and wire types live at the edge"));
            }
        }
        for name in &self.featured {
            found.push(format!(
                "{name} has cargo features; security is never one, and nothing else needs one"
            ));
        }
        for (library, allowed) in WRAPPED {
            for (member, deps) in &self.direct {
                if deps.contains(*library) && !allowed.contains(&member.as_str()) {
                    found.push(format!("{member} depends on {library}; only {} may", allowed.join(", ")));
                }
            }
        }
        found.extend(self.package_breaches());
        found
    }

    fn edge_breaches(&self) -> Vec<String> {
        let layer = |name: &str| LAYERS.iter().position(|(_, names)| names.contains(&name));
        let mut found = Vec::new();
        for (from, deps) in &self.direct {
            let dev = ["testkit", "xtask", "benches"].contains(&from.as_str());
            match layer(from) {
                None if !dev => found.push(format!("crate {from} stands in no layer of the design")),
                _ => {}
            }
            for to in deps.iter().filter(|to| self.members.contains_key(*to)) {
                let allowed = match (layer(from), layer(to)) {
                    (Some(above), Some(below)) => {
                        above > below || EDGES.contains(&(from.as_str(), to.as_str()))
                    }
                    (None, _) => true,
                    (Some(_), None) => false,
                };
                if !allowed {
                    found.push(format!("the edge {from} → {to} goes against the layers"));
                }
            }
        }
        found
    }

    fn package_breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        for single in SINGLE {
            let versions: BTreeSet<&str> = self
                .names
                .values()
                .filter(|(name, _, _)| name == single)
                .map(|(_, version, _)| version.as_str())
                .collect();
            if versions.len() > 1 {
                found.push(format!("{single} is linked in {} versions: {versions:?}", versions.len()));
            }
        }
        for (name, version, licence) in self.names.values() {
            if !licensed(licence) {
                found.push(format!("{name} {version} is licensed \"{licence}\", which is not on the list"));
            }
        }
        found
    }
}

/// Whether one alternative of an SPDX expression consists of accepted licences only.
fn licensed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ").replace(" WITH LLVM-exception", "");
    let accepted = |licence: &str| LICENCES.contains(&licence.trim());
    // "A AND (B OR C)" has its alternatives inside: each conjunct needs one accepted alternative.
    if expression.contains("AND") {
        return plain.split(" AND ").all(|part| part.split(" OR ").any(accepted));
    }
    plain.split(" OR ").any(accepted)
}

/// Each crate has its paragraph in ARCHITECTURE.md.
fn undocumented(graph: &Graph) -> Vec<String> {
    let mut page = String::new();
    let path = root().join("ARCHITECTURE.md");
    let opened =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_to_string(&mut file, &mut page));
    if let Err(error) = opened {
        return vec![format!("ARCHITECTURE.md: {error}")];
    }
    let missing = graph.members.keys().filter(|name| !page.contains(&format!("`{name}`")));
    missing.map(|name| format!("ARCHITECTURE.md says nothing of the crate `{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let packages: BTreeSet<&str> =
            edges.iter().flat_map(|(from, to)| std::iter::once(*from).chain(to.iter().copied())).collect();
        let ours: Vec<&str> = LAYERS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let package = |name: &&str| {
            let deps: Vec<Value> = edges
                .iter()
                .filter(|(from, _)| from == name)
                .flat_map(|(_, to)| to.iter())
                .map(|to| serde_json::json!({"name": to, "kind": null}))
                .collect();
            serde_json::json!({"id": name, "name": name, "version": "1", "license": "MIT", "dependencies": deps})
        };
        let node = |name: &&str| {
            let deps: Vec<Value> = edges
                .iter()
                .filter(|(from, _)| from == name)
                .flat_map(|(_, to)| to.iter())
                .map(|to| serde_json::json!({"pkg": to, "dep_kinds": [{"kind": null}]}))
                .collect();
            serde_json::json!({"id": name, "deps": deps})
        };
        Graph::read(&serde_json::json!({
            "workspace_members": packages.iter().filter(|name| ours.contains(name)).collect::<Vec<_>>(),
            "packages": packages.iter().map(package).collect::<Vec<_>>(),
            "resolve": {"nodes": packages.iter().map(node).collect::<Vec<_>>()},
        }))
    }

    #[test]
    fn edges_that_go_down_a_layer_are_in_order() {
        let graph = graph(&[
            ("broker", &["mqtt", "store"]),
            ("mqtt", &["policy"]),
            ("policy", &["trust"]),
            ("trust", &["x509"]),
        ]);
        assert_eq!(graph.breaches(), Vec::<String>::new());
    }

    #[test]
    fn each_rule_for_crates_can_fail() {
        for (edges, word) in [
            (vec![("types", &["x509"] as &[&str])], "types → x509 goes against"),
            (vec![("enroll", &["broker"])], "enroll → broker goes against"),
            (
                vec![("broker", &["store"]), ("store", &["far"]), ("far", &["signer"])],
                "broker must never reach signer",
            ),
            (vec![("mqtt", &["codec"]), ("codec", &["tokio"])], "mqtt is pure and must never reach tokio"),
            (vec![("policy", &["serde"])], "policy must not know serde"),
            (vec![("admin", &["rusqlite"])], "admin depends on rusqlite"),
        ] {
            let found = graph(&edges).breaches();
            assert!(found.iter().any(|breach| breach.contains(word)), "{word}: {found:?}");
        }
    }

    #[test]
    fn a_crate_with_cargo_features_is_found() {
        let package = serde_json::json!({"id": "tls", "name": "tls", "version": "1", "license": "MIT",
            "dependencies": [], "features": {"verify": []}});
        let graph = Graph::read(&serde_json::json!({
            "workspace_members": ["tls"], "packages": [package], "resolve": {"nodes": []},
        }));
        assert_eq!(graph.breaches().len(), 1, "{:?}", graph.breaches());
    }

    #[test]
    fn licences_are_read_with_their_alternatives() {
        for (expression, accepted) in [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("ISC AND (Apache-2.0 OR ISC)", true),
            ("GPL-3.0", false),
            ("MIT AND GPL-2.0", false),
            ("MPL-2.0", false),
            ("", false),
        ] {
            assert_eq!(licensed(expression), accepted, "{expression}");
        }
    }
}
