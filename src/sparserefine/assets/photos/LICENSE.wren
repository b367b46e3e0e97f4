wren.jpg is backgrounds/canyon-wren.jpg of BuddiesOfBudgie/budgie-backgrounds at commit
82067426f1dde366e9c9038fdbe457c2527525dd, whose README puts all its photos under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/): no rights reserved.
