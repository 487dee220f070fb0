//! Images from strangers: what they name is not followed, and the process confines itself.

mod command;
mod policy;
mod safety;
