/* Runs the cases of cases.bin through the dot products of HEADER into sums.bin. No buffer is longer than it must be. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define QRNN_USE_NARROW
#define QRNN_USE_WIDE
#include HEADER

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

int main(void)
{
    FILE *const cases = fopen("cases.bin", "rb");
    FILE *const out = fopen("sums.bin", "wb");
    struct {
        uint32_t wide, count, columns, shift;
        int32_t limit, bias[4];
    } head;
    if (cases == NULL || out == NULL) {
        return 1;
    }
    while (fread(&head, sizeof head, 1, cases) == 1) {
        const uint32_t words = head.wide ? QRNN_WIDE_OPERAND_WORDS(head.columns) : QRNN_OPERAND_WORDS(head.columns);
        int16_t *const values = allocate(2 * head.count);
        int8_t *const weight = allocate(4 * head.columns);
        uint32_t *const operand = allocate(4 * words);
        int32_t sums[4];
        read_all(values, 2 * head.count, cases);
        read_all(weight, 4 * head.columns, cases);
        if (head.columns % QRNN_COLUMNS != 0) {
            return 4;
        }
        for (uint32_t k = 0; k < words; k++) {
            operand[k] = 0xDEADBEEFu;
        }
        if (head.wide) {
            qrnn_encode_wide(values, head.count, head.shift, head.limit, operand);
            qrnn_dot4_wide(weight, operand, head.columns, head.bias, sums);
        } else {
            qrnn_encode(values, head.count, head.shift, head.limit, operand);
            qrnn_dot4(weight, operand, head.columns, head.bias, sums);
        }
        if (fwrite(sums, sizeof sums, 1, out) != 1) {
            return 5;
        }
        free(values);
        free(weight);
        free(operand);
    }
    return fclose(out);
}
