//! Test: each statement of the hot paths reaches its rows through an index, one probe per key.
