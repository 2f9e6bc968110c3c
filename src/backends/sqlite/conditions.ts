/** SQL that several statements about items share. */

/** Whether a consumer has it in hands. @param item an alias with `reader` and `seq` */
export function isLeased(item: string): string {
  return `EXISTS (SELECT 1 FROM sb1_leased AS leased WHERE leased.reader = ${item}.reader AND leased.seq = ${item}.seq)`;
}

/** Whether it has not expired. @param delivery an alias with `reader` and `seq`, beside `items` @returns with one parameter, the time */
export function isFresh(delivery: string): string {
  return `coalesce(coalesce(items.expires_at, (SELECT shares.expires_at FROM sb1_shares AS shares
    WHERE shares.reader = ${delivery}.reader AND shares.seq = ${delivery}.seq)) > ?, 1)`;
}

/** When an item was pushed. One that an earlier build stored was pushed no later than the file got the column. */
export const PUSHED_AT = "coalesce(items.at, (SELECT version FROM sb1_versions WHERE name = 'upgraded_at'))";
