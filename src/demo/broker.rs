//! The in-process broker: librdkafka's mock cluster.
//!
//! Called directly and not through `rdkafka::mocking`, which keeps the handle to itself that three
//! settings need: a controller, how long a group waits before its first rebalance, and how often a
//! member of the new protocol is heard. The last two are 3 s there, longer than a small demo takes.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as ffi;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use crate::generate::Topic;

/// Partitions of each topic. The broker keeps so much of each, so more let the generator run
/// further ahead; each costs a little at every fetch.
pub const PARTITIONS: i32 = 6;

/// A broker that lives as long as this value, and its topics with it.
pub struct MockBroker {
    cluster: *mut ffi::rd_kafka_mock_cluster_t,
    /// The client in whose name it runs.
    _client: BaseProducer<DefaultProducerContext>,
}

impl MockBroker {
    pub fn start() -> Result<Self, String> {
        let client: BaseProducer<DefaultProducerContext> =
            ClientConfig::new().create().map_err(|error| error.to_string())?;
        // SAFETY: the client outlives the cluster, which is destroyed first.
        let cluster =
            unsafe { ffi::rd_kafka_mock_cluster_new(client.client().native_client().ptr(), 1) };
        if cluster.is_null() {
            return Err("the in-process broker did not start".to_owned());
        }
        let broker = Self { cluster, _client: client };
        // SAFETY: the cluster is alive.
        unsafe {
            // It names broker 0 as its controller, which asks for topic ids wait for, and has none.
            ffi::rd_kafka_mock_broker_add(cluster, 0);
            ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 50);
            ffi::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(cluster, 100);
        }
        for topic in Topic::DEMO {
            // A command that comes while the answer to the one before is still under way waits for
            // the cluster's next round, a second later.
            std::thread::sleep(Duration::from_millis(3));
            let name = CString::new(topic.name()).map_err(|error| error.to_string())?;
            // SAFETY: the cluster is alive, and the name is copied.
            let error =
                unsafe { ffi::rd_kafka_mock_topic_create(cluster, name.as_ptr(), PARTITIONS, 1) };
            if error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(format!("topic {} was not created: {error:?}", topic.name()));
            }
        }
        Ok(broker)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        // SAFETY: the cluster is alive, and so is its text.
        let address =
            unsafe { CStr::from_ptr(ffi::rd_kafka_mock_cluster_bootstraps(self.cluster)) };
        address.to_string_lossy().into_owned()
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        // SAFETY: made in `start`, destroyed once, before its client.
        unsafe { ffi::rd_kafka_mock_cluster_destroy(self.cluster) }
    }
}
