use serde_json::{Map, Value, json};

/// The document of the operator API: OpenAPI 3.1, written by hand and held against the router's
/// table of endpoints by a test.
pub fn document(version: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bailiwick operator API",
            "version": version,
            "description": "Everything but /healthz and /readyz needs an operator's certificate (or the server's own Unix socket). Errors are RFC 9457 problem documents whose type is urn:bailiwick:error:<code>; unknown fields and parameters are refused.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"operatorCertificate": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {"operatorCertificate": {"type": "mutualTLS"}},
            "schemas": schemas(),
        },
    })
}

fn paths() -> Value {
    let mut all = Map::new();
    for part in
        [open_paths(), device_paths(), token_paths(), principal_paths(), certificate_paths(), view_paths()]
    {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn open_paths() -> Value {
    json!({
        "/healthz": {"get": open("The process answers.", json!({"200": answer("It does.", json!({"type": "object"}))}))},
        "/readyz": {"get": open("Whether certificates are issued and admitted now.", json!({
            "200": answer("They are.", reference("Readiness")),
            "503": answer("They are not; the reasons are named.", reference("Readiness")),
        }))},
        "/metrics": {"get": operation("metrics", "Counters and gauges for Prometheus.", json!([]), json!({
            "200": {"description": "The values.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        }))},
        "/api/openapi.json": {"get": operation("document", "This document.", json!([]), json!({
            "200": answer("The document.", json!({"type": "object"})),
        }))},
    })
}

fn device_paths() -> Value {
    let mut add = operation(
        "addDevice",
        "Registers a device.",
        json!([]),
        json!({
            "201": answer("It is registered.", reference("Device")),
            "409": problem("The name is taken, or a topic rule bears it."),
        }),
    );
    add["requestBody"] = body(
        json!({
            "id": name("The device's id; a MAC address in any notation becomes bare hex."),
            "project": text("Its project; default if it is not given."),
            "fleet": text("Its fleet: one topic level, the value of %f."),
            "label": text("A text for people."),
        }),
        &["id"],
    );
    let mut revoke = operation(
        "revokeDevice",
        "Revokes a device for good, and waits until it is silent.",
        id(),
        json!({
            "200": answer("It is revoked.", reference("Applied")),
            "404": problem("There is no such device."),
            "409": problem("It was revoked before."),
        }),
    );
    revoke["requestBody"] = revocation_body();
    json!({
        "/api/v1/devices": {
            "post": add,
            "get": operation("listDevices", "The devices in the order of their ids.", page(), json!({
                "200": answer("One page.", list("devices", "Device")),
            })),
        },
        "/api/v1/devices/{id}": {"get": operation("showDevice", "One device, its certificates and tokens.", id(), json!({
            "200": answer("The device.", reference("Device")),
            "404": problem("There is no such device."),
        }))},
        "/api/v1/devices/{id}/revoke": {"post": revoke},
        "/api/v1/devices/{id}/suspend": {"post": operation("suspendDevice", "Puts a device's certificates on hold.", id(), json!({
            "200": answer("They are on hold.", reference("Applied")),
            "404": problem("There is no such device."),
            "409": problem("It is revoked."),
        }))},
        "/api/v1/devices/{id}/restore": {"post": operation("restoreDevice", "Lifts a hold.", id(), json!({
            "200": answer("It is lifted.", reference("Applied")),
            "404": problem("There is no such device."),
            "409": problem("It is not on hold."),
        }))},
    })
}

fn token_paths() -> Value {
    let made = || {
        json!({
            "201": answer("The token, shown this once.", reference("NewToken")),
            "404": problem("There is no such device."),
            "409": problem("The device has a live certificate and replace is not set, or it is revoked."),
            "503": problem("The clock is not to be believed."),
        })
    };
    let ttl = || {
        json!({
            "description": "How long it can be used: whole seconds, or a text such as 15m, 24h, 7d. 24 hours if it is not given.",
            "oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+[smhd]$"}],
        })
    };
    let replace = || {
        json!({
            "type": "boolean",
            "description": "Its first connection revokes the device's other certificates.",
        })
    };
    let mut generate = operation("generateToken", "Makes a one-time provisioning token.", json!([]), made());
    generate["requestBody"] =
        body(json!({"device_id": name("The device."), "ttl": ttl(), "replace": replace()}), &["device_id"]);
    let mut create = operation("createToken", "Makes a one-time provisioning token.", id(), made());
    create["requestBody"] = body(json!({"ttl": ttl(), "replace": replace()}), &[]);
    json!({
        "/generate-token": {"post": generate},
        "/api/v1/devices/{id}/tokens": {
            "get": operation("listTokens", "The tokens of a device, without their secrets.", id(), json!({
                "200": answer("The tokens.", list("tokens", "Token")),
                "404": problem("There is no such device."),
            })),
            "post": create,
        },
        "/api/v1/tokens/{id}": {"delete": operation("revokeToken", "Kills a token, and its certificate if that was never used.",
            json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"},
                    "description": "The token's id: the 26 characters between bw1. and the next dot."}]), json!({
            "200": answer("It is dead.", json!({"type": "object"})),
            "404": problem("There is no such token."),
            "409": problem("It is spent; its certificate is what can be revoked."),
        }))},
    })
}

fn principal_paths() -> Value {
    let order = |operation_id: &str, summary: &str| {
        let mut order = operation(
            operation_id,
            summary,
            json!([]),
            json!({
                "201": answer("The certificate.", reference("Ordered")),
                "409": problem("The name is taken, the key is another's, or the order was refused."),
                "503": problem("The clock is not to be believed."),
            }),
        );
        order["requestBody"] = body(
            json!({
                "name": name("The name that topic rules and the log know."),
                "csr": text("A certificate request in PEM, without a name or with this one."),
                "project": text("The project; default if it is not given."),
                "reissue": {"type": "boolean", "description": "The name exists; certify another key for it."},
            }),
            &["name", "csr"],
        );
        order
    };
    let mut revoke = operation(
        "revokePrincipal",
        "Revokes a service or an operator for good, and waits until it is silent.",
        id(),
        json!({
            "200": answer("It is revoked.", reference("Applied")),
            "404": problem("Nobody bears the name."),
            "409": problem("It was revoked before."),
        }),
    );
    revoke["requestBody"] = revocation_body();
    json!({
        "/api/v1/principals/{id}/revoke": {"post": revoke},
        "/api/v1/services": {"post": order("addService", "Registers a backend service and certifies its key.")},
        "/api/v1/operators": {"post": order("addOperator", "Registers an operator and certifies their key.")},
        "/api/v1/principals": {"get": operation("listPrincipals", "The services and operators.", page(), json!({
            "200": answer("One page.", list("principals", "Principal")),
        }))},
    })
}

fn certificate_paths() -> Value {
    let of_path = |name: &str, description: &str| json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}});
    let mut revoke = operation(
        "revokeCertificate",
        "Revokes one certificate for good, such as the one that a reissue replaced, and waits until it is silent.",
        json!([
            of_path("issuer", "The label of its CA, or the CA's id in hex."),
            of_path("serial", "Its serial in hex, with or without 0x."),
        ]),
        json!({
            "200": answer("It is revoked; its bearer's other certificates stay good.", reference("Applied")),
            "404": problem("There is no such CA or certificate."),
            "409": problem("It was revoked before."),
        }),
    );
    revoke["requestBody"] = revocation_body();
    json!({"/api/v1/certificates/{issuer}/{serial}/revoke": {"post": revoke}})
}

fn view_paths() -> Value {
    let limit = || json!({"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}});
    let query = |name: &str, description: &str| json!({"name": name, "in": "query", "required": true, "description": description, "schema": {"type": "string"}});
    let after = |kind: &str| json!({"name": "after", "in": "query", "schema": {"type": kind}});
    json!({
        "/api/v1/clients": {"get": operation("listClients", "The live sessions.", json!([after("string"), limit()]), json!({
            "200": answer("One page.", list("clients", "Client")),
        }))},
        "/api/v1/refusals": {"get": operation("listRefusals", "The newest refusals, newest first.", json!([limit()]), json!({
            "200": answer("The refusals.", list("refusals", "Refusal")),
        }))},
        "/api/v1/events": {"get": operation("listEvents", "Lines of the chained log.", json!([after("integer"), limit()]), json!({
            "200": answer("One page.", list("events", "LogLine")),
        }))},
        "/api/v1/checkpoints": {"get": operation("listCheckpoints", "Signatures over the chained log.", json!([after("integer"), limit()]), json!({
            "200": answer("One page.", list("checkpoints", "Checkpoint")),
        }))},
        "/api/v1/policy/explain": {"get": operation("explainPolicy", "What the topic rules say, and which of them.", json!([
            query("principal", "A registered name."),
            query("action", "publish, subscribe or receive."),
            query("topic", "A topic, or a filter for subscribe."),
        ]), json!({
            "200": answer("What they say.", reference("Explanation")),
            "404": problem("The name is not registered."),
        }))},
        "/api/v1/reload": {"post": operation("reload", "Reads policy, limits and certificates again; all of it is valid or nothing changes.", json!([]), json!({
            "200": answer("What is in force.", json!({"type": "object"})),
            "409": problem("Nothing changed; each mistake is named with its place."),
        }))},
        "/api/v1/status": {"get": operation("status", "What an operator looks at first.", json!([]), json!({
            "200": answer("The status.", json!({"type": "object"})),
        }))},
    })
}

fn schemas() -> Value {
    json!({
        "Problem": object(json!({
            "type": text("urn:bailiwick:error:<code>"), "title": text("The kind."), "status": {"type": "integer"},
            "detail": text("What was wrong, and where."), "error": text("The same as detail."),
            "place": text("A JSON pointer into the body, ?parameter, path or body."),
        })),
        "Readiness": object(json!({
            "status": text("ready or not ready"),
            "reasons": {"type": "array", "items": object(json!({"code": text("A slug."), "detail": text("Why.")}))},
        })),
        "Device": object(json!({
            "id": text("Its id."), "original": text("As it was written, if that differs."),
            "project": text("Its project."), "fleet": nullable("Its fleet."), "label": nullable("A text for people."),
            "standing": text("active, suspended or revoked"), "revoked_epoch": text("The epoch of its revocation."),
            "denied": {"type": "boolean"}, "added_at": text("RFC 3339."), "added_by": text("Who."),
            "certificates": {"type": "array", "items": reference("Certificate")},
            "tokens": {"type": "array", "items": reference("Token")},
        })),
        "Principal": object(json!({
            "kind": text("service or operator"), "name": text("Its name."), "project": text("Its project."),
            "standing": text("active, suspended or revoked"), "revoked_epoch": text("The epoch of its revocation."),
            "added_at": text("RFC 3339."), "added_by": text("Who."),
            "certificates": {"type": "array", "items": reference("Certificate")},
        })),
        "Certificate": object(json!({
            "serial": text("Hex."), "issuer": text("The label of its CA."), "fingerprint": text("SHA-256 of its DER."),
            "spki_sha256": text("SHA-256 of its key."),
            "state": text("unconfirmed, active, superseded, suspended or revoked"),
            "superseded_until": text("RFC 3339."), "generation": {"type": "integer"},
            "not_before": text("RFC 3339."), "not_after": text("RFC 3339."), "issued_at": text("RFC 3339."),
            "revoked_at": nullable("RFC 3339."), "reason": nullable("As in RFC 5280."),
            "pem": text("The certificate, where one device is shown."),
        })),
        "Token": object(json!({
            "id": text("Its public half."), "device_id": text("The device."),
            "state": text("unused, bound, spent or revoked"), "key_sha256": text("The key that it is bound to."),
            "expires_at": text("RFC 3339."), "replace": {"type": "boolean"},
            "created_at": text("RFC 3339."), "created_by": text("Who."),
        })),
        "NewToken": object(json!({
            "token": text("What /provision takes."), "token_id": text("Its public half."),
            "device_id": text("The device."), "expires_at": text("RFC 3339."), "replace": {"type": "boolean"},
            "bundle": text("Token, address and root pins in one text, for the device."),
        })),
        "Ordered": object(json!({
            "name": text("The name."), "kind": text("service or operator"), "serial": text("Hex."),
            "not_after": text("RFC 3339."), "certificate": text("PEM."), "ca_chain": text("PEM, up to the root."),
        })),
        "Applied": object(json!({
            "device_id": text("The device."), "name": text("The service or operator."),
            "issuer": text("The label of the CA, where one certificate was revoked."), "epoch": text("The epoch in which it is so."),
            "certificates": {"type": "array", "items": {"type": "string"}},
            "sessions_closed": {"type": "integer"},
            "crl": {"oneOf": [{"type": "null"}, object(json!({"number": {"type": "integer"}}))]},
            "lagging": {"type": "array", "items": object(json!({
                "reader": text("handshakes, sessions or crl"), "applied": text("The epoch that it has applied."),
            }))},
            "took_ms": {"type": "integer"}, "text": text("All of it in one sentence."),
        })),
        "Client": object(json!({
            "kind": text("device, service or operator"), "name": text("The certificate's name."),
            "client_id": text("Its client id."), "serial": text("Hex."), "issuer": text("The label of its CA."),
            "peer": text("Address and port."), "tls": text("The version."), "suite": text("The cipher suite."),
            "conn": {"type": "integer"}, "connected_at": text("RFC 3339."),
        })),
        "Refusal": object(json!({
            "at": text("RFC 3339."), "level": text("info, warn or alert"), "event": {"type": "object"},
        })),
        "LogLine": object(json!({
            "seq": {"type": "integer"}, "at": text("RFC 3339."), "prev": text("Hex."), "hash": text("Hex."),
            "event": {"type": "object"}, "at_ms": {"type": "integer"}, "body": text("The event as its hash covers it."),
        })),
        "Checkpoint": object(json!({
            "seq": {"type": "integer"}, "hash": text("Hex."), "at_ms": {"type": "integer"}, "signature": text("Hex."),
        })),
        "Explanation": object(json!({
            "principal": text("Who."), "action": text("What."), "topic": text("On what."),
            "policy_epoch": {"type": "integer"}, "permitted": {"type": "boolean"}, "rule": text("file:line of the rule that decides."),
            "matching": {"type": "array", "items": {"type": "string"}}, "text": text("By which rule."),
        })),
    })
}

fn operation(operation_id: &str, summary: &str, parameters: Value, mut responses: Value) -> Value {
    for (status, description) in [
        ("400", "A field or parameter is wrong, missing or unknown; its place is named."),
        ("401", "No operator is known to ask."),
        ("403", "The certificate is not an operator's, or is not believed."),
    ] {
        responses[status] = problem(description);
    }
    json!({"operationId": operation_id, "summary": summary, "parameters": parameters, "responses": responses})
}

fn open(summary: &str, responses: Value) -> Value {
    json!({"summary": summary, "security": [], "parameters": [], "responses": responses})
}

fn answer(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn problem(description: &str) -> Value {
    json!({"description": description, "content": {"application/problem+json": {"schema": reference("Problem")}}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn list(name: &str, schema: &str) -> Value {
    let mut properties = Map::new();
    properties.insert(name.to_owned(), json!({"type": "array", "items": reference(schema)}));
    properties.insert(
        "next".to_owned(),
        json!({"type": ["string", "integer", "null"], "description": "Pass it as after for the next page."}),
    );
    object(Value::Object(properties))
}

fn body(properties: Value, required: &[&str]) -> Value {
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    json!({"required": !required.is_empty(), "content": {"application/json": {"schema": schema}}})
}

fn revocation_body() -> Value {
    body(
        json!({
            "reason": {
                "type": "string",
                "enum": ["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"],
                "description": "The reason that the CRL gives.",
            },
        }),
        &[],
    )
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn nullable(description: &str) -> Value {
    json!({"type": ["string", "null"], "description": description})
}

fn name(description: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 64, "description": description})
}

fn id() -> Value {
    json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "The device's id; a MAC address in any notation is accepted."}])
}

fn page() -> Value {
    json!([
        {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "The last name of the page before."},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::endpoints::{ENDPOINTS, Who};

    #[test]
    fn the_document_names_exactly_the_endpoints_of_the_router() {
        let document = document("0.0.0");
        let mut written = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                written.insert((path.clone(), method.to_ascii_uppercase()));
            }
        }
        let served: BTreeSet<_> =
            ENDPOINTS.iter().map(|e| (e.path.to_owned(), e.method.to_owned())).collect();
        assert_eq!(written, served);
    }

    #[test]
    fn an_endpoint_is_open_in_the_document_exactly_when_it_is_open() {
        let document = document("0.0.0");
        for endpoint in ENDPOINTS {
            let operation = &document["paths"][endpoint.path][endpoint.method.to_ascii_lowercase()];
            let open = operation["security"] == json!([]);
            assert_eq!(open, endpoint.who == Who::Anyone, "{} {}", endpoint.method, endpoint.path);
            let named = operation["responses"].get("401").is_some();
            assert_eq!(named, !open, "{} {}", endpoint.method, endpoint.path);
        }
    }

    #[test]
    fn every_name_in_a_path_is_a_parameter_and_every_reference_leads_somewhere() {
        let document = document("0.0.0");
        for endpoint in ENDPOINTS {
            let operation = &document["paths"][endpoint.path][endpoint.method.to_ascii_lowercase()];
            let varying =
                endpoint.path.split('/').filter_map(|level| level.strip_prefix('{')?.strip_suffix('}'));
            for (at, name) in varying.enumerate() {
                assert_eq!(operation["parameters"][at]["name"], name, "{}", endpoint.path);
            }
        }
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = document("0.0.0");
        let mut seen = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                if let Some(id) = operation["operationId"].as_str() {
                    assert!(seen.insert(id.to_owned()), "{id}");
                }
            }
        }
    }
}
