//! What a log may hold beside records: transactions, markers, holes, compressed batches.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka;
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, Row, SOON, Sender};

#[test]
fn aborted_transactions_and_their_markers() {
    let mut place = Place::new("aborted");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("deals", &topic);
    let _node = place.node();
    let sender = Sender::with(&[("transactional.id", &topic)]);
    sender.0.init_transactions(SOON).expect("transactions");
    let committed = |ids| {
        sender.0.begin_transaction().expect("begun");
        sender.send(&topic, 0, ids);
        sender.0.commit_transaction(SOON).expect("committed");
    };
    let aborted = |ids| {
        sender.0.begin_transaction().expect("begun");
        sender.send(&topic, 0, ids);
        sender.0.abort_transaction(SOON).expect("aborted");
    };
    committed(0..10);
    aborted(100..110);
    committed(10..20);
    place.wait_for_ids("deals", 0..20);
    // Nothing follows the last marker: the watermark passes it all the same.
    place.wait_for_watermarks("deals", &[33]);
    // No record at all comes of this one.
    aborted(200..205);
    place.wait_for_watermarks("deals", &[39]);
    // A transaction still open hides its own records, and those that others send after it.
    sender.0.begin_transaction().expect("begun");
    sender.send(&topic, 0, 20..25);
    Sender::new().send(&topic, 0, 25..30);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(place.warehouse("deals").len(), 20, "a record of an open transaction was read");
    place.wait_for_watermarks("deals", &[39]);
    sender.0.commit_transaction(SOON).expect("committed");
    place.wait_for_ids("deals", 0..30);
    place.wait_for_watermarks("deals", &[50]);
    place.verify();
}

/// The broker takes header names that are no UTF-8, so one must not end the reading.
#[test]
fn a_header_whose_name_is_no_text() {
    let mut place = Place::new("odd-header");
    let topic = place.topic("t", 1, &[]);
    place.feed(
        "deals",
        &format!("topic: {topic}\n{COLUMNS}\nlake: {{linger: 200ms, keep_headers: true}}"),
    );
    let sender = Sender::new();
    sender.send(&topic, 0, 0..3);
    send_with_header(&sender.0, &topic, b"x\xff\xfe", b"{\"id\":3}");
    sender.send(&topic, 0, 4..6);
    let _node = place.node();
    place.wait_for_ids("deals", 0..6);
    place.verify();
}

/// Past rdkafka's own types, which hold text alone.
fn send_with_header(producer: &BaseProducer, topic: &str, name: &[u8], value: &[u8]) {
    use ffi::rd_kafka_vtype_t as vtype;
    let topic = CString::new(topic).expect("a name");
    // SAFETY: pointers live through the call, which copies; each tag is followed by what it says.
    let code = unsafe {
        let headers = ffi::rd_kafka_headers_new(1);
        ffi::rd_kafka_header_add(
            headers,
            name.as_ptr().cast(),
            name.len() as isize,
            ptr::null(),
            0,
        );
        ffi::rd_kafka_producev(
            producer.client().native_ptr(),
            vtype::RD_KAFKA_VTYPE_TOPIC as c_int,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_PARTITION as c_int,
            0 as c_int,
            vtype::RD_KAFKA_VTYPE_VALUE as c_int,
            value.as_ptr(),
            value.len(),
            vtype::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
            ffi::RD_KAFKA_MSG_F_COPY as c_int,
            vtype::RD_KAFKA_VTYPE_HEADERS as c_int,
            headers,
            vtype::RD_KAFKA_VTYPE_END as c_int,
        )
    };
    assert_eq!(code, ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    producer.flush(SOON).expect("the broker takes the record");
}

/// A node that begins behind markers: it must not wait for a record after them.
#[test]
fn markers_alone_at_the_end_of_an_idle_partition() {
    let mut place = Place::new("markers");
    let topic = place.topic("t", 3, &[]);
    place.plain_feed("deals", &topic);
    let sender = Sender::with(&[("transactional.id", &topic)]);
    sender.0.init_transactions(SOON).expect("transactions");
    for (partition, abort) in [(0, false), (1, true)] {
        sender.0.begin_transaction().expect("begun");
        sender.send(&topic, partition, 0..5);
        let ended = match abort {
            true => sender.0.abort_transaction(SOON),
            false => sender.0.commit_transaction(SOON),
        };
        ended.expect("ended");
    }
    let mut node = place.node();
    place.wait_for_ids("deals", 0..5);
    place.wait_for_watermarks("deals", &[6, 6, 0]);
    // What is past them is also what the next start goes on from.
    node.terminate(SOON);
    let node = place.node();
    node.wait_for_log("consuming", SOON);
    sender.0.begin_transaction().expect("begun");
    sender.send(&topic, 0, 5..8);
    sender.0.commit_transaction(SOON).expect("committed");
    place.wait_for_ids("deals", 0..8);
    place.wait_for_watermarks("deals", &[10, 6, 0]);
    place.verify();
}

/// What a consumer finds in partition 0: offset and id.
fn kept(topic: &str) -> Vec<Row> {
    let mut config = kafka::config();
    config.set("group.id", "nobody").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("assigned");
    let mut rows = Vec::new();
    while let Some(Ok(record)) = consumer.poll(SOON) {
        let value: serde_json::Value =
            serde_json::from_slice(record.payload().expect("a value")).expect("JSON");
        rows.push((0, record.offset(), value["id"].as_i64().expect("an id")));
    }
    rows
}

#[test]
fn holes_that_compaction_left() {
    let mut place = Place::new("compacted");
    let compact = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = place.topic("t", 1, &compact);
    place.plain_feed("prices", &topic);
    let sender = Sender::new();
    // Ten keys: of the first 200 records ten are left at most.
    sender.send(&topic, 0, 0..200);
    // A new segment, so that the former one may be cleaned.
    std::thread::sleep(Duration::from_millis(300));
    sender.send(&topic, 0, 200..205);
    wait_for("the log to be compacted", SOON, || (kept(&topic).len() < 100).then_some(()));
    let first = place.node();
    place.wait_for_watermarks("prices", &[205]);
    // The cleaner may still be at work: what was read before stays, what is left must be there.
    for (sink, rows) in [("warehouse", place.warehouse("prices")), ("lake", place.lake("prices"))] {
        let left = kept(&topic);
        assert!(left.iter().all(|row| rows.contains(row)), "{sink}: {rows:?} lacks of {left:?}");
        assert!(rows.len() < 100, "{sink}: compaction was over: nothing was proved");
        let offsets: BTreeMap<i64, i64> =
            rows.iter().map(|(_, offset, id)| (*offset, *id)).collect();
        assert_eq!(offsets.len(), rows.len(), "{sink} holds a record twice");
        assert!(rows.iter().all(|(_, offset, id)| offset == id), "{sink}: {rows:?}");
    }
    assert!(!first.log().contains("lane lost"), "a hole was taken for a loss");
    place.verify();
}

#[test]
fn every_compression_codec() {
    let mut place = Place::new("codecs");
    let codecs = ["gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        // The broker's own setting: whatever a producer sends, the log holds this.
        let topic = place.topic(codec, 1, &[("compression.type", codec)]);
        place.plain_feed(codec, &topic);
        Sender::with(&[("linger.ms", "50")]).send(&topic, 0, 0..500);
        // And as producers compress it.
        let setting = [("compression.codec", codec), ("linger.ms", "50")];
        Sender::with(&setting).send(&topic, 0, 500..1000);
    }
    let _node = place.node();
    for codec in codecs {
        place.wait_for_ids(codec, 0..1000);
    }
    place.verify();
}
