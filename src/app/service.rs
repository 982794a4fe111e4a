//! What the service manager of the machine is told, where there is one that asks (systemd's `Type=notify`): that the
//! node is ready, that it stops, and that it lives.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use sd_notify::NotifyState;
use tracing::debug;

use crate::telemetry::pulse::Pulse;

/// How soon it is told that the node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!(target: "tidegate::app", %error, "the service manager could not be told");
    }
}

/// Tells that it is ready once it is, and from then on that it lives as long as it does. Called on an actix system.
pub async fn tell_of(pulse: Arc<Pulse>) {
    // Nobody asks.
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    while !pulse.ready().ok {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tell(NotifyState::Ready);
    // Twice in the time that it may be silent.
    let Some(silence) = sd_notify::watchdog_enabled() else { return };
    loop {
        if pulse.lives(Utc::now().timestamp_millis()).ok {
            tell(NotifyState::Watchdog);
        }
        tokio::time::sleep(silence / 2).await;
    }
}

pub fn tell_of_stop() {
    tell(NotifyState::Stopping);
}
