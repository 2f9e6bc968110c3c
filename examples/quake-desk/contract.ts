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
  events: { "quake.recorded": Quake },
  // An alert is the quake that it is about.
  queues: { alerts: Quake },
});

export type QuakeBroker = Broker<typeof contract>;
