//! The records' bytes, as the producer and ksqlDB write them: names in upper case, no spaces, key
//! columns in the key alone.

use super::Topic;
use super::expected::{Total, summary_columns};
use super::json::{Object, push_hex, push_number, push_padded};
use super::transaction::*;

impl Transaction {
    pub(super) fn id_text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        self.push_id(&mut out);
        out
    }

    fn push_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"TXN-");
        let width = if self.id >> 32 == 0 { 8 } else { 16 };
        push_hex(out, self.id, width);
    }

    /// The value in `transaction_log`.
    pub(super) fn log_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640);
        let mut object = Object::begin(&mut out);
        object.text_with("TRANSACTION_ID", |out| self.push_id(out));
        self.put_nested(object);
        out
    }

    /// The value in `transaction_stream`.
    pub(super) fn stream_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640);
        self.put_nested(Object::begin(&mut out));
        out
    }

    fn put_nested(&self, mut object: Object<'_>) {
        self.put_time(&mut object);
        self.put_user(&mut object);
        self.put_purchase(&mut object);
        object.object("LOCATION", |inner| self.put_city(inner, "CITY", "COUNTRY"));
        self.put_goods(&mut object);
        object.object("SHIPPING_ADDRESS", |inner| {
            self.put_shipping(inner, ["STREET", "ZIP", "CITY", "COUNTRY"]);
        });
        object.object("DEVICE_INFO", |inner| {
            self.put_device(inner, "OS", "BROWSER");
            self.put_address(inner, "IP_ADDRESS");
        });
        self.put_rest(&mut object);
        object.end();
    }

    pub(super) fn flattened_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640);
        let mut object = Object::begin(&mut out);
        self.put_time(&mut object);
        self.put_user(&mut object);
        self.put_purchase(&mut object);
        self.put_city(&mut object, "LOCATION_CITY", "LOCATION_COUNTRY");
        self.put_goods(&mut object);
        self.put_shipping(
            &mut object,
            ["SHIPPING_STREET", "SHIPPING_ZIP", "SHIPPING_CITY", "SHIPPING_COUNTRY"],
        );
        self.put_device(&mut object, "DEVICE_OS", "DEVICE_BROWSER");
        self.put_address(&mut object, "DEVICE_IP_ADDRESS");
        self.put_rest(&mut object);
        object.end();
        out
    }

    pub(super) fn anonymized_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(560);
        let mut object = Object::begin(&mut out);
        self.put_time(&mut object);
        self.put_hash(&mut object);
        self.put_purchase(&mut object);
        object.cents("AMOUNT_EUR", self.euro_cents());
        self.put_city(&mut object, "LOCATION_CITY", "LOCATION_COUNTRY");
        self.put_goods(&mut object);
        self.put_device(&mut object, "DEVICE_OS", "DEVICE_BROWSER");
        self.put_rest(&mut object);
        object.end();
        out
    }

    pub(super) fn blacklisted_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(400);
        let mut object = Object::begin(&mut out);
        self.put_time(&mut object);
        self.put_user(&mut object);
        self.put_purchase(&mut object);
        self.put_city(&mut object, "LOCATION_CITY", "LOCATION_COUNTRY");
        self.put_address(&mut object, "DEVICE_IP_ADDRESS");
        object.end();
        out
    }

    pub(super) fn secure_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(400);
        let mut object = Object::begin(&mut out);
        self.put_time(&mut object);
        self.put_hash(&mut object);
        self.put_purchase(&mut object);
        self.put_city(&mut object, "LOCATION_CITY", "LOCATION_COUNTRY");
        self.put_goods(&mut object);
        object.end();
        out
    }

    pub(super) fn dollar_value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        let mut object = Object::begin(&mut out);
        self.put_hash(&mut object);
        object.text("TRANSACTION_TYPE", TYPES[usize::from(self.kind)]);
        object.cents("AMOUNT_USD", self.dollar_cents());
        object.end();
        out
    }

    fn put_hash(&self, object: &mut Object<'_>) {
        object.text_with("USER_ID_HASHED", |out| self.push_hash(out));
    }

    pub(super) fn push_hash(&self, out: &mut Vec<u8>) {
        for part in self.user_hash() {
            push_hex(out, part, 16);
        }
    }

    fn put_time(&self, object: &mut Object<'_>) {
        object.text_with("TIMESTAMP", |out| self.push_timestamp(out));
    }

    fn put_user(&self, object: &mut Object<'_>) {
        object.text_with("USER_ID", |out| push_user(out, self.user));
        object.text("USER_NAME", self.user_name());
    }

    fn put_purchase(&self, object: &mut Object<'_>) {
        object.text_with("PRODUCT_ID", |out| {
            out.extend_from_slice(b"PROD-");
            push_number(out, self.product);
        });
        object.cents("AMOUNT", self.cents);
        object.text("CURRENCY", CURRENCIES[usize::from(self.currency)].0);
        object.text("TRANSACTION_TYPE", TYPES[usize::from(self.kind)]);
        object.text("STATUS", STATUSES[usize::from(self.status)]);
    }

    fn put_city(&self, object: &mut Object<'_>, city: &str, country: &str) {
        object.text(city, self.city().name);
        object.text(country, self.city().country);
    }

    fn put_goods(&self, object: &mut Object<'_>) {
        object.text("PAYMENT_METHOD", METHODS[usize::from(self.method)]);
        object.text("PRODUCT_CATEGORY", CATEGORIES[usize::from(self.category)]);
        object.number("QUANTITY", self.quantity);
    }

    fn put_shipping(&self, object: &mut Object<'_>, names: [&str; 4]) {
        let to = &CITIES[usize::from(self.to_city)];
        object.text_with(names[0], |out| {
            push_number(out, self.house);
            out.push(b' ');
            out.extend_from_slice(STREETS[usize::from(self.street)].as_bytes());
        });
        object.text_with(names[1], |out| push_number(out, self.zip));
        object.text(names[2], to.name);
        object.text(names[3], to.country);
    }

    fn put_device(&self, object: &mut Object<'_>, system: &str, browser: &str) {
        object.text(system, SYSTEMS[usize::from(self.system)]);
        object.text(browser, BROWSERS[usize::from(self.browser)]);
    }

    fn put_address(&self, object: &mut Object<'_>, name: &str) {
        object.text_with(name, |out| {
            for (place, part) in self.address.to_be_bytes().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_number(out, u64::from(part));
            }
        });
    }

    fn put_rest(&self, object: &mut Object<'_>) {
        match self.rating {
            Some(rating) => object.number("CUSTOMER_RATING", rating),
            None => object.null("CUSTOMER_RATING"),
        }
        match self.discount {
            Some((percent, code)) => object.text_with("DISCOUNT_CODE", |out| {
                out.extend_from_slice(b"SAVE");
                push_padded(out, percent, 2);
                out.push(b'-');
                push_hex(out, code, 4);
            }),
            None => object.null("DISCOUNT_CODE"),
        }
        object.cents("TAX_AMOUNT", self.tax_cents());
    }
}

pub(super) fn push_user(out: &mut Vec<u8>, user: u64) {
    out.extend_from_slice(b"USER-");
    push_number(out, user);
}

/// The key of a table's row: of two columns a JSON object, of one its plain text.
pub(super) fn table_key(topic: Topic, slot: usize) -> Vec<u8> {
    if topic == Topic::PaymentMethodTotals {
        return METHODS[slot].as_bytes().to_vec();
    }
    let (user, kind) = summary_columns(slot);
    let mut out = Vec::with_capacity(60);
    let mut object = Object::begin(&mut out);
    object.text_with("USER_ID", |out| push_user(out, user));
    object.text("TRANSACTION_TYPE", kind);
    object.end();
    out
}

/// The value in tables of totals.
pub(super) fn total_value(total: Total) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut object = Object::begin(&mut out);
    object.cents("TOTAL_AMOUNT", total.cents);
    object.number("TRANSACTION_COUNT", total.count);
    object.end();
    out
}
