//! Whose sinks these are: a lake and a warehouse of different installations would mix two histories.

use std::sync::{Mutex, PoisonError};

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
    /// Never held while a sink is asked: one that is away must not hold the other up.
    known: Mutex<Known>,
}

#[derive(Default, Clone, Copy)]
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
        let before = self.known();
        match (sink, warehouse, lake) {
            (SinkKind::Warehouse, Some(warehouse), _) if before.warehouse.is_none() => {
                let found = warehouse.installation(self.mine, false).await?;
                self.learn(sink, Some(found));
            }
            (SinkKind::Lake, _, Some(lake)) if before.lake.is_none() => {
                let found = match (warehouse, before.warehouse) {
                    (None, _) => Some(lake.installation(self.mine, false).await?),
                    (Some(_), Some(id)) => Some(lake.installation(id, false).await?),
                    // An unowned lake stays so until it is known which warehouse it goes with.
                    (Some(_), None) => lake.known_installation().await?,
                };
                self.learn(sink, found);
            }
            _ => {}
        }
        let Known { warehouse: Some(id), lake: Some(found) } = self.known() else { return Ok(()) };
        let Some(lake) = lake.filter(|_| id != found) else { return Ok(()) };
        if self.adopt {
            warn!(target: "tidegate::ownership", lake = %found, warehouse = %id, "adopting a lake of another installation");
            let adopted = lake.installation(id, true).await?;
            self.learn(SinkKind::Lake, Some(adopted));
            return Ok(());
        }
        Err(SinkError::lasting(format!(
            "the lake {} belongs to installation {found}, the warehouse to {id}: together they would \
             mix two histories. Point the node at sinks that belong together, or start it once with \
             --adopt",
            lake.url()
        )))
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, sink: SinkKind, id: Option<Uuid>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match sink {
            SinkKind::Warehouse => known.warehouse = id,
            SinkKind::Lake => known.lake = id,
        }
    }
}
