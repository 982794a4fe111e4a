//! The broker's id of a topic. rdkafka has no call for it, so this one goes to librdkafka itself.

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::NativeClient;
use uuid::Uuid;

use crate::record::TopicId;

/// Asks for one topic's id. A broker that has none answers [`TopicId::UNKNOWN`]; a topic that does
/// not exist is an error.
pub fn topic_id(client: &NativeClient, topic: &str, timeout: Duration) -> Result<TopicId, String> {
    let name = CString::new(topic).map_err(|_| format!("topic name {topic:?} holds a NUL"))?;
    let mut names = [name.as_ptr()];
    // SAFETY: every pointer made here is freed by its guard, in reverse order; `names` outlives the
    // collection; the result is owned by the event and read before the event goes.
    unsafe {
        let topics = Guard(
            ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            ffi::rd_kafka_TopicCollection_destroy,
        );
        let queue = Guard(ffi::rd_kafka_queue_new(client.ptr()), ffi::rd_kafka_queue_destroy);
        ffi::rd_kafka_DescribeTopics(client.ptr(), topics.0, ptr::null(), queue.0);
        let event = Guard(
            ffi::rd_kafka_queue_poll(queue.0, timeout.as_millis() as i32),
            ffi::rd_kafka_event_destroy,
        );
        if event.0.is_null() {
            return Err(format!("the broker did not describe topic {topic:?} in {timeout:?}"));
        }
        let error = ffi::rd_kafka_event_error(event.0);
        if error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(format!(
                "describing topic {topic:?}: {}",
                text(ffi::rd_kafka_err2str(error))
            ));
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let descriptions = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if descriptions.is_null() || count == 0 {
            return Err(format!("the broker described no topic {topic:?}"));
        }
        let description = *descriptions;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null()
            && ffi::rd_kafka_error_code(error)
                != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(format!("topic {topic:?}: {}", text(ffi::rd_kafka_error_string(error))));
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Ok(TopicId::UNKNOWN);
        }
        let high = ffi::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = ffi::rd_kafka_Uuid_least_significant_bits(id) as u64;
        Ok(TopicId::new(Uuid::from_u64_pair(high, low)))
    }
}

unsafe fn text(message: *const std::ffi::c_char) -> String {
    // SAFETY: librdkafka hands out NUL-terminated texts that outlive this call.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}

/// Frees a librdkafka object.
pub(super) struct Guard<T>(pub *mut T, pub unsafe extern "C" fn(*mut T));

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by librdkafka, freed once, by the function that belongs to it.
            unsafe { (self.1)(self.0) }
        }
    }
}
