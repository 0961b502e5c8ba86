-- A rebuild that has begun and not ended ('topics' or 'store'): nothing else opens the store.
ALTER TABLE store ADD COLUMN rebuilding TEXT;
