//! Real sockets through services, in worlds of namespaces.

mod world;

use world::World;

#[test]
fn opens_twice() {
    World::run("open", |world| {
        world.open();
    });
}
