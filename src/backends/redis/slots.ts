/** Which of a Cluster's 16,384 hash slots a key belongs to (Redis Cluster specification, "Key distribution model"). */

export const SLOT_COUNT = 16_384;

/** CRC16/XMODEM: polynomial 0x1021, starting at 0. */
const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  return crc;
});

/** The slot of a key: of what stands between its first `{` and the next `}`, where that is not empty. */
export function slotOfKey(key: string): number {
  const open = key.indexOf("{");
  const close = open < 0 ? -1 : key.indexOf("}", open + 1);
  const hashed = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(hashed)) crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] ?? 0);
  return crc % SLOT_COUNT;
}
