//! What does each key of a listener take, and what does it mean?

use super::takes::Takes::{Either, OneOrList, Section, Words};
use super::takes::{ADDRESS, Described, PATH, key};
use crate::config::schema;

pub(super) const SECTIONS: &[Described] = &[
    Described {
        section: &schema::LISTEN,
        says: "Where the process listens; 0.0.0.0 and [::] are every address of the host.",
        rule: "",
        keys: &[
            key(
                "data",
                OneOrList(&Either(&[ADDRESS, Section(&schema::LISTENER)]), 1, 64),
                "For clients: one address, or a list.",
            )
            .usually("127.0.0.1:8080"),
            key(
                "telemetry",
                Either(&[Words(&["off"]), ADDRESS]),
                "For Prometheus and health checks; holds no secrets.",
            )
            .usually("127.0.0.1:9600"),
            key(
                "admin",
                Either(&[Words(&["off"]), ADDRESS]),
                "For the operator's commands, which need the token in data_dir.",
            )
            .usually("127.0.0.1:9601"),
            key("peer", ADDRESS, "For the other nodes; only with `cluster`.")
                .usually("127.0.0.1:9602"),
        ],
    },
    Described {
        section: &schema::LISTENER,
        says: "An address at which clients are listened for.",
        rule: "",
        keys: &[
            key("address", ADDRESS, "Where.").needed(),
            key(
                "tls",
                Either(&[Words(&["off"]), Section(&schema::LISTENER_TLS)]),
                "How it speaks TLS (1.2 and 1.3).",
            )
            .usually("off"),
            key(
                "proxy_protocol",
                Words(&["off", "required"]),
                "Whether each connection must begin with a header of the PROXY protocol, version 1 \
                 or 2, of a balancer before it.",
            )
            .usually("off"),
        ],
    },
    Described {
        section: &schema::LISTENER_TLS,
        says: "How a listener speaks TLS. Files are read again on reload.",
        rule: "",
        keys: &[
            key(
                "certificates",
                OneOrList(&Section(&schema::CERTIFICATE), 1, 1024),
                "A client is shown the one for the name that it asks for, or the first.",
            )
            .needed(),
            key(
                "client_ca",
                Either(&[Words(&["none"]), PATH]),
                "The authorities that sign for clients, in PEM.",
            )
            .usually("none"),
            key(
                "client_certificates",
                Words(&["off", "optional", "required"]),
                "Whether clients are asked for certificates, and refused without one.",
            )
            .usually("off"),
        ],
    },
    Described {
        section: &schema::CERTIFICATE,
        says: "A certificate and its key.",
        rule: "",
        keys: &[
            key("cert", PATH, "The certificate and those that lead to its authority, in PEM.")
                .needed(),
            key("key", PATH, "Its private key, in PEM.").needed(),
        ],
    },
];
