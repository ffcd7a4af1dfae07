//! Refill, sync and check together: every fault at once, a class, an outage of an hour, and the settings that are off.

mod class_of_200;
mod exactly_once;
mod mortal;
mod off;
mod outages;
mod world;
