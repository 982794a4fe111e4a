//! A registry for tests.

use std::ops::Deref;

use super::Registry;
use crate::config::SchemaRegistry;
use crate::http::double;

/// Answers below a path, as some registries do.
pub struct Double(double::Double);

impl Deref for Double {
    type Target = double::Double;

    fn deref(&self) -> &double::Double {
        &self.0
    }
}

impl Double {
    pub fn start(answer: impl Fn(&str, usize) -> (u16, String) + Send + 'static) -> Self {
        Self(double::Double::start(answer))
    }

    pub fn config(&self) -> SchemaRegistry {
        serde_json::from_value(serde_json::json!({"url": format!("{}/below/", self.url)})).unwrap()
    }

    pub fn registry(&self) -> Registry {
        Registry::open(&self.config()).unwrap()
    }
}
