//! How the edge's own fetches use their connections.

use crate::support::world::World;

#[tokio::test]
async fn fetches_keep_their_connection_to_the_vms() {
    let world = World::new().await;
    for user in 1..=5 {
        world.user(user).asks([1]).await.gets([1]).is("fwd=miss");
    }
    assert_eq!(world.vms.connections(), 1);
}

#[tokio::test]
async fn a_vms_that_closes_after_each_answer_is_asked_on_new_connections() {
    let world = World::new().await;
    world.vms.add_response_header("Connection", "close");
    for user in 1..=3 {
        world.user(user).asks([1]).await.gets([1]).is("fwd=miss");
    }
    assert_eq!(world.vms.connections(), 3);
}
