/** What the quake desk talks about: one kind of event and one queue, typed and checked at both ends. */

import { type Broker, defineContract } from "signalbox";
import { z } from "zod";

export const Quake = z.object({
  id: z.string().min(1),
  /** Ms since the epoch. */
  time: z.int(),
  magnitude: z.number(),
  place: z.string().min(1),
  /** The seismic network that reported it. */
  net: z.string().min(1),
  lon: z.number().optional(),
  lat: z.number().optional(),
  depthKm: z.number().optional(),
});
export type Quake = z.infer<typeof Quake>;

export const contract = defineContract({
  // Told to whoever looks on now. What has to be handled is the event.
  channels: { "quakes.{region}": Quake },
  events: { "quake.recorded": Quake },
  // An alert is the quake that it is about. Who holds the turn may play the feed: it is one message for ever.
  queues: { alerts: Quake, turn: z.literal("play") },
});

/** How long a killed desk's deliveries stay with it; after that the next one gets them. */
export const LEASE_MS = 3_000;
/** A kill counts as an attempt too, so that a message that crashes its consumers is parked one day. Not these. */
export const PATIENT = { maxAttempts: 1_000_000 };

export type QuakeBroker = Broker<typeof contract>;
