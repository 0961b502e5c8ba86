-- A rebuild that has begun and not ended ('topics' or 'store'): nothing else opens the store.
ALTER TABLE store ADD COLUMN rebuilding text;
-- HMAC of the account, as in the key of its record on `registers`: nothing else names it any more.
ALTER TABLE tombstones ADD COLUMN mac bytea;
