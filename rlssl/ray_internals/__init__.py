"""All private names of Ray and RLlib that rlssl uses; the tests fail if one is renamed."""
