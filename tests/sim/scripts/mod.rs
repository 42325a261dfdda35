//! Frame scripts: one behaviour each, with a virtual clock, through the public interface of the shard.

mod changes;
mod channels;
mod closing;
mod connect;
mod containment;
mod downstream;
mod drain;
mod events;
mod fanout;
mod gateway;
mod inflate;
mod queries;
mod rooms;
mod targets;
mod upstream;
