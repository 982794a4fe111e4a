//! What a Kafka client complains of: said at once, then now and then, with the field that mends it.
//!
//! The client goes on trying by itself whatever is wrong, since the world may heal: so each cause is
//! repeated every half a minute, and not at every attempt.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// One client's complaints, as its context hears them.
#[derive(Debug)]
pub struct Complaints {
    client: &'static str,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last reason, whatever its cause.
    last: Option<String>,
    /// The cause of the last failed connection.
    cause: Option<Cause>,
    said: Vec<(Cause, Instant)>,
}

/// What is wrong, as far as it tells which field to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Credentials,
    Mechanism,
    /// The broker's certificate is not trusted, or is another host's.
    Authority,
    /// TLS, to a listener that speaks none.
    PlainListener,
    Tls,
    WantsTls,
    WantsSasl,
    Name,
    /// No connection to one broker; the others may do.
    Connection,
    Away,
    Denied,
}

impl Complaints {
    /// `client` names it in log lines.
    pub fn of(client: &'static str) -> Self {
        Self { client, heard: Mutex::default() }
    }

    /// What the client last complained of.
    pub fn last(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    fn take(&self, code: RDKafkaErrorCode, reason: &str) {
        let (cause, last) = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            (heard.hear(code, reason, Instant::now()), heard.last.clone())
        };
        let client = self.client;
        let Some(cause) = cause else {
            debug!(target: "tidegate::source", client, %code, reason, "client error");
            return;
        };
        let reason = last.as_deref().unwrap_or(reason);
        let (wrong, remedy) = cause.advice();
        if cause.may_pass() {
            warn!(target: "tidegate::source", client, reason, remedy, "{wrong}; trying again");
        } else {
            error!(target: "tidegate::source", client, reason, remedy, "{wrong}; trying again");
        }
    }
}

impl Heard {
    /// Takes note of a complaint. Answers the cause if it is to be said now.
    fn hear(&mut self, code: RDKafkaErrorCode, reason: &str, now: Instant) -> Option<Cause> {
        let cause = cause(code, reason)?;
        if cause != Cause::Away {
            self.last = Some(reason.to_owned());
            self.cause = Some(cause);
        } else if self.cause.is_some_and(|cause| cause != Cause::Connection) {
            // That no broker is left follows from what was said of the connections to them.
            return None;
        }
        if cause == Cause::Connection {
            return None;
        }
        let recent = |(said, at): &(Cause, Instant)| *said == cause && now - *at < AGAIN_AFTER;
        if self.said.iter().any(recent) {
            return None;
        }
        self.said.retain(|(said, _)| *said != cause);
        self.said.push((cause, now));
        Some(cause)
    }
}

/// None: no fault of the way to the broker, or none at all, such as the end of a partition.
fn cause(code: RDKafkaErrorCode, reason: &str) -> Option<Cause> {
    use RDKafkaErrorCode as Code;
    let says = |text: &str| reason.contains(text);
    Some(match code {
        Code::Authentication if says("mechanism handshake failed") => Cause::Mechanism,
        Code::Authentication | Code::SaslAuthenticationFailed => Cause::Credentials,
        Code::SSL | Code::BrokerTransportFailure if says("PLAINTEXT broker listener") => {
            Cause::PlainListener
        }
        Code::SSL if says("certificate verify failed") => Cause::Authority,
        Code::SSL => Cause::Tls,
        Code::Resolve => Cause::Name,
        Code::BrokerTransportFailure if hung_up(reason, "APIVERSION_QUERY") && !says("ssl://") => {
            Cause::WantsTls
        }
        Code::BrokerTransportFailure if hung_up(reason, "UP") && !says("sasl_") => Cause::WantsSasl,
        // A broker that does not trust our certificate may only hang up.
        Code::BrokerTransportFailure if says("ssl://") && says("SSL_HANDSHAKE") => Cause::Tls,
        Code::BrokerTransportFailure | Code::OperationTimedOut => Cause::Connection,
        Code::AllBrokersDown => Cause::Away,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Cause::Denied,
        _ => return None,
    })
}

/// Whether a connection was closed as soon as it came into a state.
fn hung_up(reason: &str, state: &str) -> bool {
    let after = reason.rsplit_once("(after ").filter(|(before, _)| before.contains("Disconnected"));
    let after = after.and_then(|(_, after)| after.split_once("ms in state "));
    after.is_some_and(|(ms, rest)| {
        rest.split([')', ',']).next() == Some(state) && ms.parse().is_ok_and(|ms: u32| ms < 2000)
    })
}

impl Cause {
    /// What is wrong, and what to do.
    fn advice(self) -> (&'static str, &'static str) {
        match self {
            Cause::Credentials => (
                "the broker refuses the node's credentials",
                "check `kafka.sasl.username` and `kafka.sasl.password`",
            ),
            Cause::Mechanism => (
                "the broker does not know the way the node signs in",
                "set `kafka.sasl.mechanism` to one that the listener has, or remove `kafka.sasl` if it \
                 has none",
            ),
            Cause::Authority => (
                "the broker's certificate is not trusted",
                "check `kafka.tls.ca`, and that `kafka.bootstrap` names the host that the \
                 certificate is for",
            ),
            Cause::PlainListener => (
                "the broker's listener speaks no TLS",
                "name the port of its TLS listener in `kafka.bootstrap`, or remove `kafka.tls`",
            ),
            Cause::Tls => (
                "TLS with the broker fails",
                "check `kafka.tls`; a broker that wants a certificate of the client needs \
                 `kafka.tls.certificate` and `kafka.tls.key`",
            ),
            Cause::WantsTls => (
                "the broker hangs up: its listener seems to want TLS",
                "set `kafka.tls`, or name the port of another listener in `kafka.bootstrap`",
            ),
            Cause::WantsSasl => (
                "the broker hangs up: it seems to want the node to sign in",
                "set `kafka.sasl`, or name the port of another listener in `kafka.bootstrap`",
            ),
            Cause::Name => (
                "a broker's name is not found",
                "check `kafka.bootstrap`, and the broker's `advertised.listeners`",
            ),
            Cause::Connection | Cause::Away => (
                "no broker answers",
                "if it lasts, check `kafka.bootstrap` and that the brokers run",
            ),
            Cause::Denied => (
                "the broker denies the node what it asks for",
                "give its user read access to the feeds' topics and to `kafka.group`",
            ),
        }
    }

    /// It passes when a server comes back, or is a guess; the others last until somebody acts.
    fn may_pass(self) -> bool {
        use Cause::{Away, Connection, Name, WantsSasl, WantsTls};
        matches!(self, Name | Connection | Away | WantsSasl | WantsTls)
    }
}

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.take(code, reason);
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match (facility, level) {
            // A connection that the broker closed is a log line alone, with a guess at the reason.
            ("FAIL", RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info) => {
                let line = line.split_once("]: ").map_or(line, |(_, line)| line);
                self.take(RDKafkaErrorCode::BrokerTransportFailure, line);
            }
            // The same comes as an error, and is said there.
            ("FAIL" | "ERROR", _) => debug!(target: "librdkafka", "{facility} {line}"),
            (_, RDKafkaLogLevel::Warning) => warn!(target: "librdkafka", facility, "{line}"),
            (_, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info) => {
                info!(target: "librdkafka", "{facility} {line}");
            }
            (_, RDKafkaLogLevel::Debug) => debug!(target: "librdkafka", "{facility} {line}"),
            _ => error!(target: "librdkafka", facility, "{line}"),
        }
    }
}

impl ConsumerContext for Complaints {}

#[cfg(test)]
mod tests {
    use RDKafkaErrorCode as Code;

    use super::*;

    /// Reasons as librdkafka words them.
    #[test]
    fn each_cause_names_the_field_that_mends_it() {
        let cases = [
            (
                Code::Authentication,
                "sasl_ssl://localhost:1/bootstrap: SASL authentication error: Authentication failed",
                "kafka.sasl.password",
            ),
            (
                Code::Authentication,
                "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
                 broker's supported mechanisms: SCRAM-SHA-512",
                "kafka.sasl.mechanism",
            ),
            (
                Code::SSL,
                "SSL handshake failed: certificate verify failed: broker certificate could not be \
                 verified, verify that ssl.ca.location is correctly configured",
                "kafka.tls.ca",
            ),
            (
                Code::SSL,
                "SSL handshake failed: error:0A00010B:SSL routines::wrong version number: \
                 connecting to a PLAINTEXT broker listener?",
                "remove `kafka.tls`",
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: Disconnected: SSL connection \
                 closed by peer: connecting to a PLAINTEXT broker listener? (after 1ms in state \
                 SSL_HANDSHAKE)",
                "remove `kafka.tls`",
            ),
            (Code::SSL, "SSL handshake failed: alert certificate required", "kafka.tls.key"),
            (
                Code::BrokerTransportFailure,
                "localhost:1/bootstrap: Disconnected: connection closed by peer: receive 0 after \
                 POLLIN (after 1ms in state APIVERSION_QUERY)",
                "set `kafka.tls`",
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://localhost:1/bootstrap: Disconnected: connection closed by peer: receive 0 \
                 after POLLIN (after 12ms in state UP, 1 identical error(s) suppressed)",
                "set `kafka.sasl`",
            ),
            (Code::Resolve, "Failed to resolve 'nowhere:9092'", "kafka.bootstrap"),
            (Code::AllBrokersDown, "1/1 brokers are down", "kafka.bootstrap"),
            (Code::TopicAuthorizationFailed, "Topic authorization failed", "kafka.group"),
        ];
        for (code, reason, field) in cases {
            let cause = Heard::default().hear(code, reason, Instant::now());
            let (wrong, remedy) = cause.unwrap_or_else(|| panic!("{code}: not said")).advice();
            assert!(remedy.contains(field), "{code}: {wrong}: {remedy}");
        }
    }

    #[test]
    fn what_is_no_fault_is_not_said() {
        let now = Instant::now();
        for code in [Code::PartitionEOF, Code::AutoOffsetReset, Code::Fatal, Code::NoOffset] {
            let mut heard = Heard::default();
            assert_eq!(heard.hear(code, "any", now), None, "{code}");
            assert_eq!(heard.last, None, "{code}");
        }
        // One of many brokers may go, also one that served for a while.
        let mut heard = Heard::default();
        let gone = "localhost:1/1: Disconnected (after 5000ms in state UP)";
        assert_eq!(heard.hear(Code::BrokerTransportFailure, gone, now), None);
        let mut heard = Heard::default();
        assert_eq!(heard.hear(Code::BrokerTransportFailure, "Connection refused", now), None);
        assert_eq!(heard.hear(Code::AllBrokersDown, "1/1 down", now), Some(Cause::Away));
        assert_eq!(heard.last.as_deref(), Some("Connection refused"));
    }

    #[test]
    fn a_cause_is_repeated_now_and_then() {
        let mut heard = Heard::default();
        let start = Instant::now();
        let mut at =
            |seconds, code| heard.hear(code, "refused", start + Duration::from_secs(seconds));
        assert_eq!(at(0, Code::Authentication), Some(Cause::Credentials));
        // It is why no broker is left, so that is not said beside it.
        assert_eq!(at(0, Code::AllBrokersDown), None);
        assert_eq!(at(29, Code::Authentication), None);
        assert_eq!(at(29, Code::Resolve), Some(Cause::Name));
        assert_eq!(at(30, Code::Authentication), Some(Cause::Credentials));
        assert_eq!(at(31, Code::Authentication), None);
    }
}
