"""Every private name of Ray and RLlib that rlssl relies on; its tests fail when one is renamed."""
