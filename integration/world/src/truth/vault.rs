//! The server's side of the truth: tokens, leases, static roles.

use std::time::Duration;

use leasehold_core::clock::Moment;
use serde_json::{Value, json};

use super::{How, Lease, State, Static, Token};
use crate::plan::{Made, TokenKind, What};

/// A status and a body, as the server would send it.
pub(crate) type Answer = (u16, Value);

/// What an answer gave to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Nothing,
    Token(String),
    Lease(String),
}

impl State {
    pub(super) fn make_static_users(&mut self) {
        for (index, made) in self.roles.clone().into_iter().enumerate() {
            let Made::Static { period_s } = made else { continue };
            let (user, period) = (format!("static-{index}"), Duration::from_secs(period_s));
            let due = self.now + period;
            self.make_user(index, &user, "p-1");
            let since = Moment::from_nanos(0);
            self.statics.insert(index, Static { user, period, version: 1, since, due, rotates_at: due });
            self.ends_at(due);
        }
    }

    pub(crate) fn log_in(&mut self) -> (Answer, Given) {
        if self.is(|what| matches!(what, What::LoginsDoubtful)) {
            return (denied(), Given::Nothing);
        }
        self.issued += 1;
        let value = format!("hvs.{}", self.issued);
        let ttl = Duration::from_secs(self.login.ttl_s);
        let max_end = match self.login.kind {
            TokenKind::Periodic => Moment::NEVER,
            TokenKind::Service | TokenKind::Batch => self.now + Duration::from_secs(self.login.max_ttl_s),
        };
        let end = (self.now + ttl).min(max_end);
        let jwt_end = self.login.jwt_s.map_or(Moment::NEVER, |life| self.now + Duration::from_secs(life));
        let token = Token { end, max_end, jwt_end, made: self.now, uses: self.login.uses };
        self.tokens.insert(value.clone(), token);
        self.ends_at(end);
        let is_batch = self.login.kind == TokenKind::Batch;
        let auth = json!({
            "client_token": value,
            "accessor": if is_batch { String::new() } else { format!("accessor-{}", self.issued) },
            "lease_duration": self.now.until(end).as_secs(),
            "renewable": !is_batch,
            "token_type": if is_batch { "batch" } else { "service" },
            "num_uses": self.login.uses.unwrap_or_default(),
        });
        ((200, json!({ "auth": auth })), Given::Token(value))
    }

    pub(crate) fn renew_token(&mut self, value: &str, increment: Option<u64>) -> Answer {
        if !self.tokens.contains_key(value) || self.is(|what| matches!(what, What::RenewalsDenied)) {
            return denied();
        }
        let (now, login) = (self.now, self.login);
        let Some(token) = self.tokens.get_mut(value) else { return denied() };
        if login.kind == TokenKind::Batch {
            return (400, errors("batch tokens cannot be renewed"));
        }
        if token.jwt_end <= now {
            return (403, errors("failed to renew entry: token is expired"));
        }
        let asked = match login.kind {
            TokenKind::Periodic => login.ttl_s,
            TokenKind::Service | TokenKind::Batch => increment.unwrap_or(login.ttl_s),
        };
        token.end = (now + Duration::from_secs(asked)).min(token.max_end);
        let (end, rest) = (token.end, now.until(token.end).as_secs());
        self.ends_at(end);
        (200, json!({ "auth": { "client_token": value, "lease_duration": rest, "renewable": true } }))
    }

    /// A request with this token: if it was the last that the token may be used for, then the token ends with it.
    pub(crate) fn use_token(&mut self, value: &str) {
        let Some(token) = self.tokens.get_mut(value) else { return };
        let Some(uses) = &mut token.uses else { return };
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            self.end_token(value, self.now, How::ByUs);
        }
    }

    pub(crate) fn look_up(&self, value: &str) -> Answer {
        match self.tokens.get(value) {
            Some(token) => {
                let (ttl, uses) = (self.now.until(token.end).as_secs(), token.uses.unwrap_or_default());
                (200, json!({ "data": { "ttl": ttl, "num_uses": uses } }))
            }
            None => denied(),
        }
    }

    pub(crate) fn revoke_token(&mut self, value: &str) -> Answer {
        if !self.tokens.contains_key(value) || self.is(|what| matches!(what, What::RevocationsDenied)) {
            return denied();
        }
        self.end_token(value, self.now, How::ByUs);
        (204, Value::Null)
    }

    pub(crate) fn issue(&mut self, token: &str, role: usize) -> (Answer, Given) {
        let Some(above) = self.tokens.get(token) else { return (denied(), Given::Nothing) };
        let Some(Made::Dynamic { ttl_s, max_ttl_s, renewable, .. }) = self.roles.get(role).copied() else {
            return ((400, errors("unknown role")), Given::Nothing);
        };
        let cap = if self.login.kind == TokenKind::Batch { above.end } else { Moment::NEVER };
        if self.is(|what| matches!(what, What::DatabaseDown)) {
            return ((500, errors("failed to connect: dial tcp: connection refused")), Given::Nothing);
        }
        self.issued += 1;
        let (id, user) =
            (format!("database/creds/role-{role}/{}", self.issued), format!("v-{}", self.issued));
        let ttl = Duration::from_secs(ttl_s);
        let max_end = (self.now + Duration::from_secs(max_ttl_s)).min(cap);
        let end = (self.now + ttl).min(max_end);
        let password = format!("p-{}", self.issued);
        self.make_user(role, &user, &password);
        let lease = Lease {
            role,
            user: user.clone(),
            token: token.to_owned(),
            end,
            max_end,
            renewable,
            made: self.now,
            ttl,
            heard: false,
        };
        self.leases.insert(id.clone(), lease);
        self.ends_at(end);
        let answer = json!({
            "lease_id": id,
            "lease_duration": self.now.until(end).as_secs(),
            "renewable": renewable,
            "data": { "username": user, "password": password },
        });
        ((200, answer), Given::Lease(id))
    }

    /// The password of a static role, as a node says that is so far behind.
    pub(crate) fn read_static(&mut self, token: &str, role: usize, behind: Duration) -> Answer {
        if !self.tokens.contains_key(token) {
            return denied();
        }
        let Some(role) = self.statics.get(&role) else { return (400, errors("unknown role")) };
        let is_stale = self.now < role.since + behind;
        let (version, due) = if is_stale { (role.version - 1, role.since) } else { (role.version, role.due) };
        let data = json!({
            "username": role.user,
            "password": format!("p-{version}"),
            "last_vault_rotation": format!("version {version}"),
            "ttl": self.now.until(due).as_secs(),
        });
        (200, json!({ "data": data }))
    }

    pub(crate) fn renew_lease(&mut self, token: &str, id: &str, increment: Option<u64>) -> Answer {
        if !self.tokens.contains_key(token) || self.is(|what| matches!(what, What::RenewalsDenied)) {
            return denied();
        }
        let (now, is_down) = (self.now, self.is(|what| matches!(what, What::DatabaseDown)));
        let Some(lease) = self.leases.get_mut(id) else { return (400, errors("lease not found")) };
        if !lease.renewable {
            return (400, errors("lease is not renewable"));
        }
        if is_down {
            return (400, errors("failed to renew entry: dial tcp: connection refused"));
        }
        let asked = increment.map_or(lease.ttl, Duration::from_secs);
        lease.end = (now + asked).min(lease.max_end);
        let (end, rest) = (lease.end, now.until(lease.end).as_secs());
        self.ends_at(end);
        (200, json!({ "lease_id": id, "lease_duration": rest, "renewable": true }))
    }

    pub(crate) fn revoke_lease(&mut self, token: &str, id: &str) -> Answer {
        if !self.tokens.contains_key(token) || self.is(|what| matches!(what, What::RevocationsDenied)) {
            return denied();
        }
        if self.is(|what| matches!(what, What::DatabaseDown)) && self.leases.contains_key(id) {
            return (500, errors("failed to revoke entry: dial tcp: connection refused"));
        }
        self.end_lease(id, self.now, How::ByUs);
        (204, Value::Null)
    }

    /// Notes that the service has heard of a lease.
    pub(crate) fn heard(&mut self, lease: &str) {
        if let Some(lease) = self.leases.get_mut(lease) {
            lease.heard = true;
        }
    }

    /// How many leases of a role live, and how many of these the service knows.
    pub(crate) fn leases_of(&self, role: usize) -> (usize, usize) {
        let of = || self.leases.values().filter(|lease| lease.role == role);
        (of().count(), of().filter(|lease| lease.heard).count())
    }

    /// The end of whatever a user depends on.
    pub(crate) fn end_of(&self, user: &str) -> Option<Moment> {
        let lease = self.leases.values().find(|lease| lease.user == user)?;
        Some(self.tokens.get(&lease.token).map_or(lease.end, |token| lease.end.min(token.end)))
    }

    /// Whether the token above a user's lease ends before the lease does.
    pub(crate) fn ends_with_its_token(&self, user: &str) -> bool {
        let lease = self.leases.values().find(|lease| lease.user == user);
        lease.is_some_and(|lease| self.tokens.get(&lease.token).is_some_and(|token| token.end < lease.end))
    }

    pub(crate) fn edit(&mut self, role: usize, ttl_s: u64, renewable: bool) {
        if let Some(Made::Dynamic { ttl_s: ttl, renewable: is_renewable, .. }) = self.roles.get_mut(role) {
            (*ttl, *is_renewable) = (ttl_s, renewable);
        }
    }

    pub(crate) fn revoke_tokens(&mut self) {
        for value in self.tokens.keys().cloned().collect::<Vec<_>>() {
            self.end_token(&value, self.now, How::ByOthers);
        }
    }

    pub(crate) fn revoke_leases(&mut self, role: usize) {
        let of = self.leases.iter().filter(|(_, lease)| lease.role == role);
        for id in of.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end_lease(&id, self.now, How::ByOthers);
        }
    }

    /// Forgets the tokens and leases that were made since then. Nobody ends their users any more.
    pub(crate) fn restore(&mut self, since: Moment) {
        self.tokens.retain(|_, token| token.made < since);
        for (_, lost) in self.leases.extract_if(.., |_, lease| lease.made >= since) {
            if let Some(user) = self.users.get_mut(&lost.user) {
                user.is_forgotten = true;
            }
        }
    }

    pub(crate) fn rotate_by_hand(&mut self, role: usize) {
        let now = self.now;
        if let Some(role) = self.statics.get_mut(&role) {
            role.rotates_at = now;
        }
        self.next_end = now;
        self.settle();
    }

    /// How many tokens have ended so far, in whatever way.
    pub(crate) fn deaths_of_tokens(&self) -> u64 {
        self.deaths_of_tokens
    }

    pub(super) fn end_token(&mut self, value: &str, at: Moment, how: How) {
        if self.tokens.remove(value).is_none() {
            return;
        }
        self.deaths_of_tokens += 1;
        let under = self.leases.iter().filter(|(_, lease)| lease.token == value);
        for id in under.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end_lease(&id, at, how);
        }
    }

    pub(super) fn end_lease(&mut self, id: &str, at: Moment, how: How) {
        if let Some(lease) = self.leases.remove(id) {
            self.kill(&lease.user, at, how);
        }
    }

    /// Replaces the passwords whose time has come. The server does so some seconds after the TTL has reached zero.
    pub(super) fn rotate_statics(&mut self) {
        let is_down = self.is(|what| matches!(what, What::DatabaseDown));
        for index in self.statics.keys().copied().collect::<Vec<_>>() {
            let late = Duration::from_millis(self.draws.u64(0..3_000));
            let stands = self.is(|what| matches!(what, What::RotationStops { role } if *role == index));
            let now = self.now;
            let Some(role) = self.statics.get_mut(&index) else { continue };
            while role.rotates_at <= now {
                if is_down || stands {
                    role.rotates_at = now + Duration::from_secs(10);
                    break;
                }
                role.version += 1;
                role.since = now;
                role.due = role.rotates_at + role.period;
                role.rotates_at = role.due + late;
                let (user, password) = (role.user.clone(), format!("p-{}", role.version));
                if let Some(user) = self.users.get_mut(&user) {
                    user.password = password;
                }
            }
        }
    }
}

fn denied() -> Answer {
    (403, errors("permission denied"))
}

pub(crate) fn errors(text: &str) -> Value {
    json!({ "errors": [text] })
}
