//! One suite for every backend: each test makes its store through `place::Place` and nothing else.

#[cfg(test)]
mod board;
#[cfg(test)]
mod chronicle;
#[cfg(test)]
mod issuing;
#[cfg(test)]
mod model;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod place;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod revoking;
#[cfg(test)]
mod tokens;
