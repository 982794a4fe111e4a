//! Whose sinks these are: a lake and a warehouse of different installations would mix two histories.

use tokio::sync::Mutex;
use tracing::warn;
use uuid::Uuid;

use crate::lake::LakeStore;
use crate::record::{SinkError, SinkKind};
use crate::warehouse::Warehouse;

/// Compares the ids that the sinks keep, at the first contact with each: one that is away at the start
/// is asked when it is back, before anything is written there.
pub struct Installation {
    /// The id that a sink without one is given.
    mine: Uuid,
    adopt: bool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    warehouse: Option<Uuid>,
    lake: Option<Uuid>,
}

impl Installation {
    /// `adopt`: the lake of another installation is taken over.
    pub fn new(adopt: bool) -> Self {
        Self { mine: Uuid::new_v4(), adopt, known: Mutex::default() }
    }

    /// Checks `sink`, which must be one of those given. Fails lastingly when the two do not belong
    /// together.
    pub async fn check(
        &self,
        sink: SinkKind,
        warehouse: Option<&dyn Warehouse>,
        lake: Option<&LakeStore>,
    ) -> Result<(), SinkError> {
        let mut known = self.known.lock().await;
        match (sink, warehouse, lake) {
            (SinkKind::Warehouse, Some(warehouse), _) if known.warehouse.is_none() => {
                known.warehouse = Some(warehouse.installation(self.mine, false).await?);
            }
            (SinkKind::Lake, None, Some(lake)) if known.lake.is_none() => {
                known.lake = Some(lake.installation(self.mine, false).await?);
            }
            (SinkKind::Lake, Some(_), Some(lake)) if known.lake.is_none() => {
                // An unowned lake stays so until it is known which warehouse it goes with.
                known.lake = match known.warehouse {
                    Some(id) => Some(lake.installation(id, false).await?),
                    None => lake.known_installation().await?,
                };
            }
            _ => {}
        }
        let Some(lake) = lake else { return Ok(()) };
        match (known.warehouse, known.lake) {
            (Some(id), Some(found)) if id != found && self.adopt => {
                warn!(target: "tidegate::ownership", lake = %found, warehouse = %id, "adopting a lake of another installation");
                known.lake = Some(lake.installation(id, true).await?);
                Ok(())
            }
            (Some(id), Some(found)) if id != found => Err(SinkError::lasting(format!(
                "the lake {} belongs to installation {found}, the warehouse to {id}: together they \
                 would mix two histories. Point the node at sinks that belong together, or start it \
                 once with --adopt",
                lake.url()
            ))),
            (Some(id), None) => {
                // The lake may be away: then it is asked when it is back.
                known.lake = lake.installation(id, false).await.ok();
                match known.lake {
                    Some(found) if found != id => {
                        drop(known);
                        Box::pin(self.check(sink, warehouse, Some(lake))).await
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
