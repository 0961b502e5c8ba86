//! Stories of resolution against the simulated WeChat and a real store.

mod city;
mod codes;
