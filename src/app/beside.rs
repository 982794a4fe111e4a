//! Nodes of another mode: two kinds in one group would leave partitions to whom does not serve a sink,
//! and whole nodes beside partial ones would take one sink's partitions from each other without end.

use crate::config::Mode;
use crate::source::{Log, Member};

/// Fails if nodes run that do not go with this one. `group` is that of whole nodes.
pub fn conflict(log: &Log, mode: Mode, group: &str) -> Result<Option<String>, String> {
    for (of, groups) in wrong(mode) {
        for other in groups.iter().map(|it| it.group(group)) {
            let members = log.members(&other)?;
            if let Some(member) = members.iter().find(|it| of.contains(&mode_of(it))) {
                return Ok(Some(said(mode, group, &other, member)));
            }
        }
    }
    Ok(None)
}

fn mode_of(member: &Member) -> Mode {
    Mode::of_client(&member.client_id)
}

/// The modes that do not go with this one, by the groups in which they would not.
fn wrong(mode: Mode) -> [(Vec<Mode>, Vec<Mode>); 2] {
    let others = Mode::ALL.into_iter().filter(|it| *it != mode).collect();
    let elsewhere = match mode {
        Mode::All => (vec![Mode::Lake, Mode::Warehouse], vec![Mode::Lake, Mode::Warehouse]),
        _ => (vec![Mode::All], vec![Mode::All]),
    };
    [(others, vec![mode]), elsewhere]
}

fn said(mode: Mode, group: &str, found_in: &str, member: &Member) -> String {
    let other = mode_of(member).name();
    let host = member.host.trim_start_matches('/');
    format!(
        "a node of mode `{other}` is in group `{found_in}` (client {} at {host}), and this one is of mode \
         `{}` in group `{}`: they would serve the same sink. Stop it, or wait until its session ends; \
         nodes that are to run beside it need another `kafka.group`",
        member.client_id,
        mode.name(),
        mode.group(group)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_modes_go_together() {
        let clash = |mine: Mode, theirs: Mode, group: Mode| {
            wrong(mine).iter().any(|(of, groups)| of.contains(&theirs) && groups.contains(&group))
        };
        for mode in Mode::ALL {
            assert!(!clash(mode, mode, mode), "{mode:?} beside its like");
        }
        assert!(!clash(Mode::Lake, Mode::Warehouse, Mode::Warehouse));
        assert!(clash(Mode::All, Mode::Lake, Mode::Lake));
        assert!(clash(Mode::Warehouse, Mode::All, Mode::All));
        // Groups named so by hand.
        assert!(clash(Mode::Lake, Mode::All, Mode::Lake));
        assert!(clash(Mode::All, Mode::Warehouse, Mode::All));
    }
}
