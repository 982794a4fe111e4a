//! A message's headers, whatever bytes their names are.
//!
//! rdkafka's own reading panics at a name that is no UTF-8; the broker takes such records.

use std::borrow::Cow;
use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as ffi;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

pub type Header<'m> = (Cow<'m, str>, Option<&'m [u8]>);

/// The headers in Kafka's order. In a name, bytes that are no text become U+FFFD.
pub fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    const GOOD: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    let mut list = ptr::null_mut();
    // SAFETY: the message lives as long as `message`, and its headers with it.
    if unsafe { ffi::rd_kafka_message_headers(message.ptr(), &mut list) } != GOOD {
        return Vec::new();
    }
    let mut headers = Vec::new();
    loop {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `list` is the message's; past the last index the answer is an error.
        let found = unsafe {
            ffi::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size)
        };
        if found != GOOD {
            return headers;
        }
        // SAFETY: the name ends in a zero byte and the value has `size` bytes, both the message's.
        let (name, value) = unsafe {
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name).to_string_lossy(), value)
        };
        headers.push((name, value));
    }
}

/// The same as [`crate::record::RawBatch::push`] takes them.
pub fn borrowed<'h>(
    headers: &'h [Header<'_>],
) -> impl Iterator<Item = (&'h str, Option<&'h [u8]>)> {
    headers.iter().map(|(name, value)| (name.as_ref(), *value))
}
