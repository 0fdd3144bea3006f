"""What tests stand on: sites, servers, federations, data and plans, made of real parts where a test can afford them."""
