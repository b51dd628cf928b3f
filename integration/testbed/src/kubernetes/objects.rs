//! The accounts and pods that a cluster knows.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// What a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A service account.
    Account,
    /// A pod.
    Pod,
}

impl Kind {
    /// The name of its kind in the API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Account => "serviceaccounts",
            Self::Pod => "pods",
        }
    }
}

/// Every account and every pod there is. Each exists, with a UID, from the moment when it is asked for until it is deleted.
#[derive(Debug, Default)]
pub(crate) struct Objects(Mutex<HashMap<(Kind, String, String), Option<String>>>);

impl Objects {
    /// Its UID, if it was not deleted.
    pub(crate) fn uid(&self, kind: Kind, namespace: &str, name: &str) -> Option<String> {
        self.change(kind, namespace, name, |_| {})
    }

    pub(crate) fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.change(kind, namespace, name, |object| *object = None);
    }

    /// Makes one of the same name; if there is one already, it stays.
    pub(crate) fn create(&self, kind: Kind, namespace: &str, name: &str) {
        self.change(kind, namespace, name, |object| {
            object.get_or_insert_with(uuid);
        });
    }

    fn change(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Option<String>),
    ) -> Option<String> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let object = objects.entry((kind, namespace.to_owned(), name.to_owned()));
        let object = object.or_insert_with(|| Some(uuid()));
        change(object);
        object.clone()
    }
}

/// A random UUID, of version 4.
pub(crate) fn uuid() -> String {
    let (a, b) = (fastrand::u64(..), fastrand::u64(..));
    let (variant, rest) = (0x8000 | (b >> 48 & 0x3fff), b & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-{variant:04x}-{rest:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_the_same_name_is_another_one() {
        let objects = Objects::default();
        let uid = || objects.uid(Kind::Account, "default", "pipeline");
        let first = uid().unwrap();
        assert_eq!(uid(), Some(first.clone()));
        assert_ne!(objects.uid(Kind::Pod, "default", "pipeline"), Some(first.clone()));
        objects.create(Kind::Account, "default", "pipeline");
        assert_eq!(uid(), Some(first.clone()));
        objects.delete(Kind::Account, "default", "pipeline");
        assert_eq!(uid(), None);
        objects.create(Kind::Account, "default", "pipeline");
        assert!(uid().is_some_and(|second| second != first));
    }
}
