/* Runs the cases of cases.bin through the dot products of HEADER into sums.bin, and where HEADER has loops over whole blocks of rows, compares
 * these with the dot products and the contract's requantize. No buffer is longer than it must be. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define QRNN_USE_ROWS
#define QRNN_USE_RAW
#define QRNN_USE_BIASES
#define QRNN_USE_NO_BIASES
#define QRNN_USE_NARROW
#define QRNN_USE_WIDE
#ifndef ONLY_BYTES
#define QRNN_USE_FOUR
#define QRNN_USE_FOUR_NARROW
#define QRNN_USE_FOUR_WIDE
#endif
#ifdef HALVES
#define QRNN_USE_HALVES
#endif
#include HEADER
#include "qrnn_contract.h"

static void *allocate(size_t bytes)
{
    void *const block = malloc(bytes);
    if (block == NULL) {
        exit(2);
    }
    return block;
}

static void read_all(void *to, size_t bytes, FILE *file)
{
    if (fread(to, 1, bytes, file) != bytes) {
        exit(3);
    }
}

enum { BYTES = 0, FOUR_BITS = 1, HALFWORDS = 2 }; /* how weights are stored */

#ifdef QRNN_HAS_BLOCKS
#define BLOCKS 3u

static void block_sums(const qrnn_matrix *matrix, const int8_t *weight, const uint32_t *operand, const int32_t *row, uint32_t blocks,
                       int32_t *y)
{
#ifdef QRNN_HAS_HALF_BLOCKS
    if (matrix->halves != 0) {
        qrnn_half_sums(matrix, weight, operand, row, blocks, y);
        return;
    }
#endif
    qrnn_block_sums(matrix, weight, operand, row, blocks, y);
}

/* Whether the loop over blocks gives, for one to three blocks of these weights with biases and multipliers of their own, what the dot product
 * and requantize do. */
static int blocks_agree(const int8_t *weight, uint32_t bytes, const uint32_t *operand, uint32_t columns, uint32_t wide, uint32_t stored,
                        const int32_t sums[4], const int32_t bias[4])
{
    int32_t row[8 * BLOCKS];
    int32_t bare[4 * BLOCKS];
    int8_t *const weights = allocate(BLOCKS * (size_t)bytes);
    uint32_t random = columns + 1u;
    int agree = 1;
    for (uint32_t k = 0; k < BLOCKS * bytes; k++) {
        weights[k] = weight[k % bytes];
    }
    for (uint32_t k = 0; k < 8 * BLOCKS; k++) {
        random = random * 1664525u + 1013904223u;
        row[k] = (k & 4u) != 0u ? (int32_t)(random >> 1 & 0x7FFFFFFEu) : (int32_t)((uint32_t)bias[k & 3u] + 9u * k);
    }
    for (uint32_t k = 0; k < 4 * BLOCKS; k++) {
        bare[k] = row[k / 4u * 8u + 4u + (k & 3u)];
    }
    for (uint32_t blocks = 1; blocks <= BLOCKS; blocks++) {
        qrnn_matrix matrix = {NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, QRNN_LONG_BIASES, 0, 0, QRNN_NO_LISTS, 0};
        int32_t *const y = allocate(4 * sizeof *y * blocks);
        matrix.columns = (uint16_t)columns;
        matrix.block_bytes = (uint16_t)bytes;
        matrix.wide = (uint8_t)wide;
        matrix.halves = (uint8_t)(stored == HALFWORDS);
        if (matrix.halves != 0 || qrnn_takes_blocks(&matrix)) {
            block_sums(&matrix, weights, operand, row, blocks, y);
            for (uint32_t k = 0; k < 4 * blocks; k++) {
                const int32_t sum = (int32_t)((uint32_t)sums[k & 3u] - (uint32_t)bias[k & 3u] + (uint32_t)row[k / 4u * 8u + (k & 3u)]);
                agree &= y[k] == qrnn_requantize(sum, row[k / 4u * 8u + 4u + (k & 3u)], 0);
            }
            matrix.biases = QRNN_NO_BIASES;
            block_sums(&matrix, weights, operand, bare, blocks, y);
            for (uint32_t k = 0; k < 4 * blocks; k++) {
                const int32_t sum = (int32_t)((uint32_t)sums[k & 3u] - (uint32_t)bias[k & 3u]);
                agree &= y[k] == qrnn_requantize(sum, bare[k], 0);
            }
        }
        free(y);
    }
    free(weights);
    return agree;
}
#endif

int main(void)
{
    FILE *const cases = fopen("cases.bin", "rb");
    FILE *const out = fopen("sums.bin", "wb");
    struct {
        uint32_t wide, stored, count, columns, bytes, shift;
        int32_t limit, bias[QRNN_BLOCK_ROWS];
    } head;
    if (cases == NULL || out == NULL) {
        return 1;
    }
    while (fread(&head, sizeof head, 1, cases) == 1) {
        uint32_t words = head.wide ? QRNN_WIDE_OPERAND_WORDS(head.columns) : QRNN_OPERAND_WORDS(head.columns);
        int32_t sums[QRNN_BLOCK_ROWS];
#ifdef QRNN_FOUR_IN_WORDS
        words = head.stored == FOUR_BITS ? QRNN_FOUR_OPERAND_WORDS(head.columns) : words;
#endif
        int16_t *const values = allocate(2 * head.count);
        int8_t *const weight = allocate(head.bytes);
        uint32_t *const operand = allocate(4 * words);
        read_all(values, 2 * head.count, cases);
        read_all(weight, head.bytes, cases);
        if (head.columns % QRNN_COLUMNS != 0) {
            return 4;
        }
        for (uint32_t k = 0; k < words; k++) {
            operand[k] = 0xDEADBEEFu;
        }
#ifdef QRNN_FOUR_IN_WORDS
        if (head.stored == FOUR_BITS) {
            qrnn_encode_four(values, head.count, head.shift, head.limit, operand);
        } else
#endif
        if (head.wide) {
            qrnn_encode_wide(values, head.count, head.shift, head.limit, operand);
        } else {
            qrnn_encode(values, head.count, head.shift, head.limit, operand);
        }
        if (head.stored == HALFWORDS) {
#ifdef HALVES
            qrnn_dot4_halves(weight, operand, head.columns, head.bias, sums);
#endif
        } else if (head.stored == BYTES && head.wide) {
            qrnn_dot4_wide(weight, operand, head.columns, head.bias, sums);
        } else if (head.stored == BYTES) {
            qrnn_dot4(weight, operand, head.columns, head.bias, sums);
#ifndef ONLY_BYTES
        } else if (head.wide) {
            qrnn_dot4_four_wide(weight, operand, head.columns, head.bias, sums);
        } else {
            qrnn_dot4_four(weight, operand, head.columns, head.bias, sums);
#endif
        }
#ifdef QRNN_DOT_MLA_H
        if (head.stored == BYTES && !head.wide) { /* the same of operands that are int16 */
            int32_t raw[4];
            for (uint32_t k = 0; k < words; k++) {
                operand[k] += (operand[k] & 0x8000u) << 1;
            }
            qrnn_dot4_raw(weight, operand, head.columns, head.bias, raw);
            for (uint32_t k = 0; k < 4; k++) {
                if (raw[k] != sums[k]) {
                    return 7;
                }
            }
        }
#endif
#ifdef QRNN_HAS_BLOCKS
        if (head.stored != FOUR_BITS
            && !blocks_agree(weight, head.bytes, operand, head.columns, head.wide, head.stored, sums, head.bias)) {
            return 6;
        }
#endif
        if (fwrite(sums, sizeof sums, 1, out) != 1) {
            return 5;
        }
        free(values);
        free(weight);
        free(operand);
    }
    return fclose(out);
}
