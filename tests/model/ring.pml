/* ring.pml - notify and re-arm of rings/ring.h, for spin: no wake-up is lost and no slot is overrun.
 *
 * Two ends, the frontend and the backend, do all that the header allows, in any order: fill and publish, look and take, re-arm
 * and sleep, in batches of any size. They are one proctype, as pv_ring is one struct. Indices run modulo MOD, so every wrap is
 * reached, over and over; the frontend never stops for good.
 *
 * Memory is that of x86 (TSO): each end has a store buffer; a store is seen by the other end when it has left the buffer, at
 * any later moment, in order; a seq_cst store waits until the buffer is empty. No end loads what it wrote itself (all that it
 * relies on is private), so that nothing needs to be forwarded out of a buffer. The stores to the slots are left out: they
 * leave the buffer before the store of prod that comes after them. That the compiler and weaker machines keep to that order
 * too is for the release and the acquire, and so for TSan: tests/unit/mutation_ring.sh.
 *
 * Checked in every reachable state:
 *	- when nothing can move any more, both ends sleep, and nothing is published that the other end has not taken;
 *	- an end counts no more than the other has published, and no honest end is taken for a liar (pv_ring_check);
 *	- a slot that is filled is not in use.
 * Seeded bugs, each of which must be found: LOST_WAKEUP, NO_FENCE_PUBLISH, NO_FENCE_REARM, NO_FENCE (both), LAST_ONLY, NO_ROOM;
 * and NO_WRAP claims that no index wraps, which must be refuted too. run.sh runs them all.
 */
#ifndef NR
#define NR 4 /* slots */
#endif
#ifndef MOD
#define MOD 8 /* as 2^32: a multiple of NR, and more than NR + 1 */
#endif

#ifdef NO_FENCE
#define NO_FENCE_PUBLISH
#define NO_FENCE_REARM
#endif

#define FRONT 0
#define BACK 1
#define PEER (1 - me)

#define minus(a, b) (((a) + MOD - (b)) % MOD)
#define plus(a, b) (((a) + (b)) % MOD)

/* Shared memory. prod_mem[e]: req_prod and rsp_prod, written by end e. event_mem[e]: req_event and rsp_event, which tell e
 * when to notify, written by its peer. */
byte prod_mem[2], event_mem[2];

/* The event channels, pending or not; and somebody above an idle frontend who wants I/O. */
bit bell[2];
bit wanted;

/* struct pv_ring of both ends: touched by its own end only (and read by assertions) */
byte prod[2], cons[2];
bit asleep[2];

#define S_PROD 0
#define S_EVENT 1
chan stores[2] = [3] of { bit, byte };

proctype drain(bit me)
{
	bit what;
	byte value;
end:
	do
	:: atomic {
		stores[me] ? what, value ->
		if
		:: what == S_PROD -> prod_mem[me] = value
		:: what == S_EVENT -> event_mem[PEER] = value
		fi;
		what = 0;
		value = 0
	}
	od
}

/* pv_ring_room and pv_ring_window; all that was filled is published at once, so that `published` is prod */
#ifdef NO_ROOM
#define room (me == BACK -> minus(cons[BACK], prod[BACK]) : NR + 1 - minus(prod[FRONT], cons[FRONT]))
#else
#define room (me == BACK -> minus(cons[BACK], prod[BACK]) : NR - minus(prod[FRONT], cons[FRONT]))
#endif
#define window (me == BACK -> NR - minus(cons[BACK], prod[BACK]) : minus(prod[FRONT], cons[FRONT]))

/* Load the peer's index, check it (pv_ring_check), and take as many as one likes. */
inline look_and_take()
{
	n = minus(prod_mem[PEER], cons[me]);
	assert(n <= window);
	assert(n <= minus(prod[PEER], cons[me]));
	more = n;
	do
	:: more > 0 ->
		cons[me] = plus(cons[me], 1);
		more--;
#ifdef NO_WRAP
		assert(cons[me] != 0)
#endif
	:: more = 0; break
	od
}

proctype ring_end(bit me)
{
	byte n, old, more;

	do
	:: atomic { /* pv_ring_fill, some slots; pv_ring_publish: the store of prod */
		room > 0 ->
		old = prod[me];
		more = room;
		do
		:: prod[me] = plus(prod[me], 1);
			more--;
			if
			:: more > 0
			:: more = 0; break
			fi
		od;
		assert(me == BACK || minus(prod[FRONT], cons[FRONT]) <= NR);
		stores[me] ! S_PROD, prod[me]
	   }
#ifndef NO_FENCE_PUBLISH
	   empty(stores[me]);
#endif
	   if /* the load of the event */
#ifdef LAST_ONLY
	   :: atomic { prod[me] == event_mem[me] -> old = 0 }
#else
	   :: atomic { minus(prod[me], event_mem[me]) < minus(prod[me], old) -> old = 0 }
#endif
		bell[PEER] = 1
	   :: atomic { else -> old = 0 }
	   fi

	:: atomic { /* pv_ring_ready, pv_ring_take */
		look_and_take();
		n = 0
	   }

	:: stores[me] ! S_EVENT, plus(cons[me], 1); /* pv_ring_rearm(r, 1) */
#ifndef NO_FENCE_REARM
	   empty(stores[me]);
#endif
	   atomic {
#ifndef LOST_WAKEUP
		look_and_take();
#endif
		if
		:: n == 0 -> asleep[me] = 1 /* only then may it sleep */
		:: n = 0 /* or there was something, or something else to do */
		fi
	   }
	   if
	   :: !asleep[me]
	   :: atomic { asleep[me] && bell[me] -> bell[me] = 0; asleep[me] = 0 }
	   :: atomic { asleep[me] && me == FRONT && wanted -> wanted = 0; asleep[me] = 0 }
	   :: atomic { asleep[me] && me == BACK && room > 0 -> asleep[me] = 0 } /* some of the I/O that it owes is done */
	   fi
	od
}

/* Nothing moves any more: then nothing may wait. And now somebody wants I/O, and all goes on. */
proctype monitor()
{
end:
	do
	:: timeout ->
		atomic {
			assert(asleep[FRONT] && asleep[BACK]);
			assert(prod_mem[FRONT] == cons[BACK] && prod_mem[BACK] == cons[FRONT]);
			wanted = 1
		}
	od
}

init {
	atomic {
		event_mem[FRONT] = 1;
		event_mem[BACK] = 1;
		run drain(FRONT);
		run drain(BACK);
		run ring_end(FRONT);
		run ring_end(BACK);
		run monitor()
	}
}
