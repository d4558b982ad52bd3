//! The data of the stand-in: who owns which intercoms, what they look like to whom, and what has been written.
//!
//! Everything that was never written follows from rules, so a million intercoms and a million users cost no memory.
//! Users 1 and 2 are those of the recorded answers of Laravel; for all others hash rules decide.
//! Nothing here knows of HTTP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) mod render;

/// The highest id of an intercom, and the highest user.
pub(crate) const LAST_ID: u64 = 1_000_000;
/// Cameras are numbered like their intercoms, this much higher.
pub(crate) const CAMERA_OFFSET: u64 = 653;
/// How many of a user's intercoms the list endpoint shows.
const LIST_LENGTH: usize = 50;

const OWNED_BY_USER_1: [u64; 33] = [
    1, 2, 3, 9, 16, 44, 52, 63, 73, 84, 87, 88, 96, 109, 119, 122, 148, 152, 159, 184, 189, 197,
    218, 232, 241, 267, 279, 280, 293, 328, 331, 362, 369,
];
const OWNED_BY_USER_2: [u64; 32] = [
    1, 3, 6, 10, 33, 62, 64, 66, 68, 84, 120, 122, 128, 141, 143, 151, 153, 161, 166, 199, 201,
    213, 217, 254, 255, 305, 308, 317, 328, 333, 377, 380,
];

/// Who looks: what an answer may depend on besides the id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    pub(crate) user: u64,
    /// The X-UUID, empty when there is none.
    pub(crate) device: &'a str,
    /// The `hl` header or parameter, empty when there is none.
    pub(crate) language: &'a str,
    /// What else of the request items depend on once they say for whom they are.
    pub(crate) others: &'a [String],
}

/// One intercom as one viewer sees it.
#[derive(Clone, Debug)]
pub(crate) struct Intercom {
    pub(crate) id: u64,
    pub(crate) title: Title,
    pub(crate) is_online: bool,
    pub(crate) is_enabled: bool,
    /// Its JSON, where it is not the default one.
    pub(crate) timetable: Option<Vec<u8>>,
    pub(crate) is_favorite: bool,
    pub(crate) user_status: &'static str,
    /// How often it was written, as far as this viewer can tell.
    pub(crate) writes: u64,
    /// For whom it is, where items say so.
    pub(crate) viewer: Option<String>,
}

/// What an intercom is called.
#[derive(Clone, Debug)]
pub(crate) enum Title {
    /// By the rule, in a language; empty for the VMS's own.
    Default(String),
    Written(String),
}

/// What a PATCH changes; `None` leaves as it is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) title: Option<String>,
    pub(crate) is_enabled: Option<bool>,
    /// As JSON.
    pub(crate) timetable: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    /// Spares readers the lock for as long as nothing was written.
    written: AtomicBool,
    writes: RwLock<Writes>,
    names_viewers: AtomicBool,
}

/// Everything that differs from the rules.
#[derive(Debug, Default)]
struct Writes {
    /// Orders titles written by owners and by others.
    clock: u64,
    renamed: HashMap<u64, Written>,
    /// By user and id.
    owners: HashMap<(u64, u64), Written>,
    devices: HashMap<(u64, u64), BTreeMap<String, DeviceSettings>>,
    favourites: HashMap<(u64, u64), bool>,
    given_up: HashSet<(u64, u64)>,
    revoked: HashSet<String>,
}

#[derive(Debug, Default)]
struct Written {
    title: String,
    /// When the title was written; 0 if only the count below was.
    at: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct DeviceSettings {
    is_enabled: Option<bool>,
    timetable: Option<Vec<u8>>,
    count: u64,
}

impl World {
    /// The user behind a token `tok-{user}-{device}` that was not revoked.
    pub(crate) fn user_of(&self, token: &str) -> Option<u64> {
        let (user, device) = token.strip_prefix("tok-")?.split_once('-')?;
        let canonical = !user.starts_with(['0', '+']);
        let well_formed = !device.is_empty()
            && device
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let user: u64 = user.parse().ok()?;
        let known = canonical && well_formed && (1..=LAST_ID).contains(&user);
        let revoked = || {
            self.read()
                .is_some_and(|writes| writes.revoked.contains(token))
        };
        (known && !revoked()).then_some(user)
    }

    pub(crate) fn owns(&self, user: u64, id: u64) -> bool {
        owns_by_rule(user, id)
            && !self
                .read()
                .is_some_and(|writes| writes.given_up.contains(&(user, id)))
    }

    /// The ids that the list endpoint shows a user, ascending.
    pub(crate) fn owned(&self, user: u64) -> Vec<u64> {
        let candidates = match user {
            1 => OWNED_BY_USER_1.to_vec(),
            2 => OWNED_BY_USER_2.to_vec(),
            _ => (1..=LAST_ID)
                .filter(|&id| owns_by_rule(user, id))
                .take(LIST_LENGTH)
                .collect(),
        };
        let still_owned = candidates.into_iter().filter(|&id| self.owns(user, id));
        still_owned.collect()
    }

    /// The intercom, if it is the viewer's.
    pub(crate) fn intercom(&self, viewer: Viewer<'_>, id: u64) -> Option<Intercom> {
        if !self.owns(viewer.user, id) {
            return None;
        }
        let mut intercom = by_rule(viewer, id);
        if let Some(writes) = self.read() {
            writes.apply(viewer, &mut intercom);
        }
        if self.names_viewers.load(Ordering::Relaxed) {
            let Viewer {
                user,
                device,
                language,
                others,
            } = viewer;
            let others = others.join(" ");
            intercom.viewer = Some(format!("{user} {device} {language} {others}"));
        }
        Some(intercom)
    }

    /// From now on every item says for whom it is.
    pub(crate) fn name_viewers(&self) {
        self.names_viewers.store(true, Ordering::Relaxed);
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.write().revoked.insert(token.to_owned());
    }

    /// A new title for everyone, written by no owner.
    pub(crate) fn rename(&self, id: u64, title: &str) {
        let mut writes = self.write();
        writes.clock += 1;
        let at = writes.clock;
        let renamed = writes.renamed.entry(id).or_default();
        renamed.title = title.to_owned();
        renamed.at = at;
        renamed.count += 1;
    }

    pub(crate) fn change(&self, user: u64, device: &str, id: u64, change: Change) {
        let mut writes = self.write();
        writes.clock += 1;
        let at = writes.clock;
        if let Some(title) = change.title {
            let owner = writes.owners.entry((user, id)).or_default();
            owner.title = title;
            owner.at = at;
            owner.count += 1;
        }
        if change.is_enabled.is_some() || change.timetable.is_some() {
            let devices = writes.devices.entry((user, id)).or_default();
            let settings = devices.entry(device.to_owned()).or_default();
            settings.is_enabled = change.is_enabled.or(settings.is_enabled);
            settings.timetable = change.timetable.or(settings.timetable.take());
            settings.count += 1;
        }
    }

    pub(crate) fn set_favourite(&self, user: u64, id: u64, is_favorite: bool) {
        self.write().favourites.insert((user, id), is_favorite);
    }

    pub(crate) fn give_up(&self, user: u64, id: u64) {
        self.write().given_up.insert((user, id));
    }

    pub(crate) fn give_back(&self, user: u64, id: u64) {
        self.write().given_up.remove(&(user, id));
    }

    fn read(&self) -> Option<RwLockReadGuard<'_, Writes>> {
        self.written
            .load(Ordering::Acquire)
            .then(|| self.writes.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Writes> {
        let writes = self.writes.write().unwrap_or_else(PoisonError::into_inner);
        self.written.store(true, Ordering::Release);
        writes
    }
}

impl Writes {
    fn apply(&self, viewer: Viewer<'_>, intercom: &mut Intercom) {
        let owned = (viewer.user, intercom.id);
        let renamed = self.renamed.get(&intercom.id);
        let by_owner = self.owners.get(&owned);
        let latest = renamed.into_iter().chain(by_owner).max_by_key(|w| w.at);
        if let Some(written) = latest {
            intercom.title = Title::Written(written.title.clone());
        }
        let titles = renamed.into_iter().chain(by_owner);
        intercom.writes += titles.map(|written| written.count).sum::<u64>();
        let devices = self.devices.get(&owned);
        if let Some(settings) = devices.and_then(|devices| devices.get(viewer.device)) {
            intercom.is_enabled = settings.is_enabled.unwrap_or(intercom.is_enabled);
            intercom.timetable.clone_from(&settings.timetable);
            intercom.writes += settings.count;
        }
        if let Some(&is_favorite) = self.favourites.get(&owned) {
            intercom.is_favorite = is_favorite;
        }
    }
}

fn owns_by_rule(user: u64, id: u64) -> bool {
    match user {
        1 => OWNED_BY_USER_1.binary_search(&id).is_ok(),
        2 => OWNED_BY_USER_2.binary_search(&id).is_ok(),
        // The first three are everyone's, so that users can be compared; of the rest every twelfth, as user 1 has it.
        _ => (1..=LAST_ID).contains(&id) && (id <= 3 || hash(user, id).is_multiple_of(12)),
    }
}

fn by_rule(viewer: Viewer<'_>, id: u64) -> Intercom {
    let user = viewer.user;
    // The recorded answers have the Russian titles both without a language and with `en`.
    let language = Some(viewer.language).filter(|&language| language != "en");
    let is_blocked = user > 2 && (hash(user, id) >> 32).is_multiple_of(8);
    Intercom {
        id,
        title: Title::Default(language.unwrap_or_default().to_owned()),
        is_online: !id.is_multiple_of(7),
        is_enabled: true,
        timetable: None,
        is_favorite: match (user, id) {
            (1, 2) => true,
            (1, 3) => false,
            (1 | 2, _) => id.is_multiple_of(3),
            _ => (hash(user, id) >> 16).is_multiple_of(3),
        },
        user_status: if is_blocked { "blocked" } else { "active" },
        writes: 0,
        viewer: None,
    }
}

/// Well mixed bits of a user and an id (the finaliser of SplitMix64).
fn hash(user: u64, id: u64) -> u64 {
    let mut bits = (user << 32 | id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(user: u64, device: &str) -> Viewer<'_> {
        Viewer {
            user,
            device,
            language: "",
            others: &[],
        }
    }

    #[test]
    fn tokens_name_their_user_until_they_are_revoked() {
        let world = World::default();
        for (token, expected) in [
            ("tok-1-ios", Some(1)),
            ("tok-1000000-a9", Some(LAST_ID)),
            ("tok-1000001-a", None),
            ("tok-0-a", None),
            ("tok-01-a", None),
            ("tok-+1-a", None),
            ("tok-1-", None),
            ("tok-1-A", None),
            ("tok-1", None),
            (" tok-1-ios", None),
            ("zzz", None),
        ] {
            assert_eq!(world.user_of(token), expected, "{token}");
        }
        world.revoke("tok-1-ios");
        assert_eq!(world.user_of("tok-1-ios"), None);
        assert_eq!(world.user_of("tok-1-web"), Some(1));
    }

    #[test]
    fn other_users_own_about_as_much_as_the_recorded_one() {
        let world = World::default();
        assert_eq!(world.owned(1), OWNED_BY_USER_1);
        assert_eq!(world.owned(2), OWNED_BY_USER_2);
        for user in 3..40 {
            let among = (1..=1200).filter(|&id| world.owns(user, id)).count();
            assert!((60..150).contains(&among), "user {user} owns {among}");
        }
        assert!(!world.owns(3, 0) && !world.owns(3, LAST_ID + 1));
    }

    #[test]
    fn the_last_title_wins_whoever_wrote_it() {
        let world = World::default();
        let title = |user| match world.intercom(viewer(user, ""), 1).map(|it| it.title) {
            Some(Title::Written(title)) => title,
            _ => String::new(),
        };
        world.rename(1, "office");
        let change = Change {
            title: Some("home".to_owned()),
            ..Change::default()
        };
        world.change(1, "", 1, change);
        assert_eq!((title(1).as_str(), title(2).as_str()), ("home", "office"));
        world.rename(1, "gate");
        assert_eq!((title(1).as_str(), title(2).as_str()), ("gate", "gate"));
    }

    #[test]
    fn what_was_taken_away_may_be_given_back() {
        let world = World::default();
        world.give_up(1, 2);
        assert!(!world.owns(1, 2) && world.owns(3, 2));
        world.give_back(1, 2);
        assert!(world.owns(1, 2));
    }

    #[test]
    fn items_say_for_whom_they_are_only_when_they_are_told_to() {
        let world = World::default();
        let named = |world: &World| {
            world
                .intercom(viewer(1, "phone"), 1)
                .and_then(|it| it.viewer)
        };
        assert_eq!(named(&world), None);
        world.name_viewers();
        assert_eq!(named(&world).as_deref(), Some("1 phone  "));
    }

    #[test]
    fn settings_belong_to_one_device_of_one_user() {
        let world = World::default();
        let change = Change {
            is_enabled: Some(false),
            ..Change::default()
        };
        world.change(1, "phone", 1, change);
        let seen = |user, device| {
            world
                .intercom(viewer(user, device), 1)
                .expect("it is theirs")
        };
        assert!(!seen(1, "phone").is_enabled);
        assert_eq!(seen(1, "phone").writes, 1);
        for (user, device) in [(1, "tablet"), (1, ""), (2, "phone")] {
            assert!(seen(user, device).is_enabled, "{user} {device}");
            assert_eq!(seen(user, device).writes, 0);
        }
    }
}
