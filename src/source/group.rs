//! Who is in a consumer group. rdkafka's own call does not know groups of the consumer protocol
//! (KIP-848), so this one goes to librdkafka itself.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as ffi;
use rdkafka::client::NativeClient;

use super::topic_id::Guard;

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub client_id: String,
    pub host: String,
}

/// How soon a coordinator that is on its way is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// The members of one group. A group that does not exist has none.
pub fn members(
    client: &NativeClient,
    group: &str,
    timeout: Duration,
) -> Result<Vec<Member>, String> {
    let until = Instant::now() + timeout;
    loop {
        match describe(client, group, timeout) {
            Ok(members) => return Ok(members),
            Err(Refused { on_its_way: true, .. }) if Instant::now() < until => {
                std::thread::sleep(AGAIN);
            }
            Err(Refused { reason, .. }) => return Err(reason),
        }
    }
}

struct Refused {
    /// A broker that has had no group yet makes its coordinator when first asked for it.
    on_its_way: bool,
    reason: String,
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self { on_its_way: false, reason }
    }
}

impl Refused {
    /// SAFETY: `said` is null or one of librdkafka's texts.
    unsafe fn by(group: &str, code: ffi::rd_kafka_resp_err_t, said: *const c_char) -> Self {
        use ffi::rd_kafka_resp_err_t as known;
        let on_its_way = matches!(
            code,
            known::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
                | known::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
                | known::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        );
        // SAFETY: the names of codes are never freed.
        let (name, said) = unsafe { (text(ffi::rd_kafka_err2name(code)), text(said)) };
        Self { on_its_way, reason: format!("describing group {group:?}: {name}: {}", said.trim()) }
    }
}

fn describe(client: &NativeClient, group: &str, timeout: Duration) -> Result<Vec<Member>, Refused> {
    let name = CString::new(group).map_err(|_| format!("group name {group:?} holds a NUL"))?;
    let mut names = [name.as_ptr()];
    // SAFETY: every pointer made here is freed by its guard, in reverse order; `names` outlives the
    // call, which copies it; the result is owned by the event and read before the event goes.
    unsafe {
        let queue = Guard(ffi::rd_kafka_queue_new(client.ptr()), ffi::rd_kafka_queue_destroy);
        let options = Guard(
            ffi::rd_kafka_AdminOptions_new(
                client.ptr(),
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            ),
            ffi::rd_kafka_AdminOptions_destroy,
        );
        let within = timeout.as_millis() as i32;
        ffi::rd_kafka_AdminOptions_set_request_timeout(options.0, within, ptr::null_mut(), 0);
        ffi::rd_kafka_DescribeConsumerGroups(
            client.ptr(),
            names.as_mut_ptr(),
            1,
            options.0,
            queue.0,
        );
        let event =
            Guard(ffi::rd_kafka_queue_poll(queue.0, within + 1000), ffi::rd_kafka_event_destroy);
        if event.0.is_null() {
            return Err(
                format!("the broker did not describe group {group:?} in {timeout:?}").into()
            );
        }
        let error = ffi::rd_kafka_event_error(event.0);
        if error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Refused::by(group, error, ffi::rd_kafka_err2str(error)));
        }
        let result = ffi::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        let mut count = 0;
        let groups = ffi::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        if groups.is_null() || count == 0 {
            return Ok(Vec::new());
        }
        let described = *groups;
        let error = ffi::rd_kafka_ConsumerGroupDescription_error(described);
        if !error.is_null() {
            use ffi::rd_kafka_resp_err_t as code;
            return match ffi::rd_kafka_error_code(error) {
                code::RD_KAFKA_RESP_ERR_NO_ERROR | code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {
                    Ok(Vec::new())
                }
                refused => Err(Refused::by(group, refused, ffi::rd_kafka_error_string(error))),
            };
        }
        let count = ffi::rd_kafka_ConsumerGroupDescription_member_count(described);
        let member = |index| {
            let member = ffi::rd_kafka_ConsumerGroupDescription_member(described, index);
            Member {
                client_id: text(ffi::rd_kafka_MemberDescription_client_id(member)),
                host: text(ffi::rd_kafka_MemberDescription_host(member)),
            }
        };
        Ok((0..count).map(member).collect())
    }
}

unsafe fn text(message: *const c_char) -> String {
    if message.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka hands out NUL-terminated texts that outlive this call.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}
