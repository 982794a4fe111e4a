use chrono::{Datelike, Days, NaiveDate};

use super::json::push_padded;
use super::random::{Random, mix};

pub(super) const USERS: u64 = 10_000;
pub(super) const TYPES: [&str; 4] = ["purchase", "refund", "payment", "withdrawal"];
pub(super) const METHODS: [&str; 5] =
    ["credit_card", "debit_card", "paypal", "bank_transfer", "apple_pay"];
pub(super) const STATUSES: [&str; 4] = ["completed", "pending", "failed", "processing"];
pub(super) const CATEGORIES: [&str; 6] =
    ["electronics", "clothing", "groceries", "books", "home", "sports"];
pub(super) const STREETS: [&str; 6] = [
    "Main Street",
    "Rue de la Paix",
    "Unter den Linden",
    "Gran Vía",
    "Baker Street",
    "Fifth Avenue",
];
pub(super) const SYSTEMS: [&str; 5] = ["Windows", "MacOS", "Linux", "Android", "iOS"];
pub(super) const BROWSERS: [&str; 4] = ["Chrome", "Firefox", "Safari", "Edge"];
const NAMES: [&str; 10] = [
    "Anderson",
    "Bernard",
    "Castillo",
    "Dubois",
    "Müller",
    "Fischer",
    "Johnson",
    "Núñez",
    "Ivanov",
    "Wiśniewska",
];

pub(super) struct City {
    pub(super) name: &'static str,
    pub(super) country: &'static str,
    pub(super) blacklisted: bool,
}

const fn city(name: &'static str, country: &'static str, blacklisted: bool) -> City {
    City { name, country, blacklisted }
}

pub(super) const CITIES: [City; 10] = [
    city("Guangzhou", "China", false),
    city("Berlin", "Germany", false),
    city("Paris", "France", false),
    city("Madrid", "Spain", false),
    city("London", "United Kingdom", true),
    city("New York", "United States", false),
    city("Tokyo", "Japan", false),
    city("São Paulo", "Brazil", false),
    city("Łódź", "Poland", false),
    city("Ålesund", "Norway", true),
];

/// (currency, hundred-thousandths of a euro): fixed, so that amounts in euro never change.
pub(super) const CURRENCIES: [(&str, u64); 5] =
    [("EUR", 100_000), ("USD", 92_345), ("GBP", 117_210), ("AUD", 60_480), ("BRL", 16_925)];

/// Event times lie in the five days before this one, so that several days' partitions occur.
const END: NaiveDate = NaiveDate::from_ymd_opt(2026, 1, 16).unwrap();
const DAYS: u64 = 5;
const DAY_MICROS: u64 = 86_400_000_000;

/// What is drawn for one transaction; small fields are indexes into the lists above.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    number: u64,
    pub(super) id: u64,
    /// The first day of the event times, and microseconds since.
    first: NaiveDate,
    micros: u64,
    pub(super) user: u64,
    pub(super) product: u64,
    pub(super) cents: u64,
    pub(super) currency: u8,
    pub(super) kind: u8,
    pub(super) status: u8,
    pub(super) city: u8,
    pub(super) method: u8,
    pub(super) category: u8,
    pub(super) quantity: u64,
    pub(super) house: u64,
    pub(super) street: u8,
    pub(super) zip: u64,
    pub(super) to_city: u8,
    pub(super) system: u8,
    pub(super) browser: u8,
    pub(super) address: u32,
    pub(super) rating: Option<u64>,
    /// Percent, and a number that makes the code.
    pub(super) discount: Option<(u64, u64)>,
}

/// Draws transactions, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Transactions {
    seed: u64,
    next: u64,
    first: NaiveDate,
    step_micros: u64,
}

impl Transactions {
    /// `messages` of them take up the five days; more than that go on beyond.
    pub(super) fn new(seed: u64, messages: u64) -> Self {
        let step_micros = (DAYS * DAY_MICROS / messages.max(1)).max(1);
        Self { seed: mix(seed), next: 0, first: END - Days::new(DAYS), step_micros }
    }

    /// In the five days before this one.
    pub(super) fn until(self, end: NaiveDate) -> Self {
        Self { first: end - Days::new(DAYS), ..self }
    }

    pub(super) fn draw(&mut self, random: &mut Random) -> Transaction {
        let number = self.next;
        self.next += 1;
        Transaction {
            number,
            id: id(number, self.seed),
            first: self.first,
            micros: number * self.step_micros + random.below(self.step_micros),
            user: random.below(USERS),
            product: random.below(5000),
            cents: 100 + random.below(500_000),
            currency: random.pick(CURRENCIES.len()),
            kind: random.pick(TYPES.len()),
            status: random.pick(STATUSES.len()),
            city: random.pick(CITIES.len()),
            method: random.pick(METHODS.len()),
            category: random.pick(CATEGORIES.len()),
            quantity: 1 + random.below(19),
            house: 1 + random.below(998),
            street: random.pick(STREETS.len()),
            zip: 10_000 + random.below(90_000),
            to_city: random.pick(CITIES.len()),
            system: random.pick(SYSTEMS.len()),
            browser: random.pick(BROWSERS.len()),
            address: random.next() as u32,
            rating: (random.below(10) >= 3).then(|| 1 + random.below(5)),
            discount: (random.below(10) >= 6)
                .then(|| (5 + random.below(45), random.below(1 << 16))),
        }
    }
}

/// The id looks random but never repeats: each step is reversible in 32 bits.
fn id(number: u64, seed: u64) -> u64 {
    let low = (number as u32).wrapping_mul(0x9e37_79b1) ^ seed as u32;
    (number >> 32 << 32) | u64::from(low)
}

impl Transaction {
    pub(super) fn city(&self) -> &'static City {
        &CITIES[usize::from(self.city)]
    }

    pub(super) fn user_name(&self) -> &'static str {
        NAMES[self.user as usize % NAMES.len()]
    }

    pub(super) fn tax_cents(&self) -> u64 {
        self.cents * 19 / 100
    }

    /// Rounded half up.
    pub(super) fn euro_cents(&self) -> u64 {
        (self.cents * CURRENCIES[usize::from(self.currency)].1 + 50_000) / 100_000
    }

    /// Of a dollar; by way of the euro, rounded half up once.
    pub(super) fn dollar_cents(&self) -> u64 {
        let dollar = CURRENCIES[1].1;
        (self.cents * CURRENCIES[usize::from(self.currency)].1 + dollar / 2) / dollar
    }

    /// Start of the window of `millis` in which it lies, in epoch milliseconds.
    pub(super) fn window_start(&self, millis: u64) -> u64 {
        let epoch = self.first.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis() as u64;
        let now = epoch + self.micros / 1000;
        now - now % millis
    }

    pub(super) fn is_first(&self) -> bool {
        self.number == 0
    }

    /// Stands for SHA-256: 64 hexadecimal digits that depend on the user alone.
    pub(super) fn user_hash(&self) -> [u64; 4] {
        let mut random = Random::new(self.user ^ 0x7469_6465_6761_7465);
        std::array::from_fn(|_| random.next())
    }

    /// ISO-8601, UTC, microseconds.
    pub(super) fn push_timestamp(&self, out: &mut Vec<u8>) {
        let day = self.first + Days::new(self.micros / DAY_MICROS);
        let micros = self.micros % DAY_MICROS;
        let seconds = micros / 1_000_000;
        let parts = [
            (day.year() as u64, 4, b'-'),
            (u64::from(day.month()), 2, b'-'),
            (u64::from(day.day()), 2, b'T'),
            (seconds / 3600, 2, b':'),
            (seconds / 60 % 60, 2, b':'),
            (seconds % 60, 2, b'.'),
            (micros % 1_000_000, 6, b'Z'),
        ];
        for (number, width, then) in parts {
            push_padded(out, number, width);
            out.push(then);
        }
    }
}
