"""Ledger: who owes whom, to the last unit.

Decides  whether a booking gets its escrow; what a lease cost and how that divides (5 % fee, 95 % burned, coupons);
         what each node is paid when an epoch closes (RNP-004).
Hears    Deposit, CloseEpoch; NodesHeld, LeaseEnded, ReplacementReady, BookingEnded; ProbePassed, ProbeFailed.
Answers  GetBalance, GetReceipt, GetStatement, GetAudit.
Says     DepositBooked, EscrowFunded, EscrowDeclined, LeaseCharged, GapRefunded, BookingSettled, EpochClosed,
         EpochRefused, LedgerHeadPublished; MessageRefused.
Owns     accounts, transfers and their hash chain, escrow, lease charges, epochs, rewards.

Words: a transfer moves an amount from one account (debit) to another (credit); escrow is held, then posted or voided;
a span is when a lease ran; a coupon is a dollar burned for a node's work; a pool is what an epoch may pay.
"""
