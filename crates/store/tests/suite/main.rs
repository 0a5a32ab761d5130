//! One suite for every backend: each test makes its store through `place::Place` and nothing else.

mod board;
mod chronicle;
mod issuing;
mod model;
mod opening;
mod place;
mod registry;
mod revoking;
mod tokens;
