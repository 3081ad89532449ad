"""Gate: who may connect, and to which subjects.

Decides  whether a key may come in, as which role, and what it may say and hear; which partner a key speaks for.
Hears    RegisterPartner, BanIdentity; the server's question about each new connection; who connects.
Says     PartnerRegistered, PartnerRefused, IdentityBanned; MessageRefused to an operator.
Owns     partners and bans, in PostgreSQL; a copy in the memory of each replica answers the server.

Words: a key is a public nkey; an identity is what a key stands for: a node is its key, a partner or an operator has a
name; an outsider is a node or a partner; a kick ends a connection from the server's side; a newcomer is any key that
nobody registered or banned: it may join as a node, for the marketplace is open.
"""
