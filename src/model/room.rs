//! How much may be begun at once.

use super::AppId;
use std::collections::BTreeMap;

/// For how many deferred resolutions there is place.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// In all.
    pub total: usize,
    /// Of each app…
    pub per_app: usize,
    /// …but of these.
    pub left: BTreeMap<AppId, usize>,
}

impl Room {
    /// For so many, whoever's they are.
    #[must_use]
    pub fn for_any(total: usize) -> Self {
        Self {
            total,
            per_app: total,
            left: BTreeMap::new(),
        }
    }

    /// For how many of the app, named by its id.
    #[must_use]
    pub fn of(&self, app: &str) -> usize {
        let left = self.left.iter().find(|(id, _)| id.as_str() == app);
        left.map_or(self.per_app, |(_, left)| *left)
    }

    /// For how many of whichever app has most.
    #[must_use]
    pub fn most_of_an_app(&self) -> usize {
        self.total.min(self.per_app)
    }
}
